"""The spool of uploads: parts in order, old ones make room."""

import pytest

from p2pnet.lab.runs import uploads as uploads_module
from p2pnet.lab.runs.uploads import Uploads
from p2pnet.model.errors import LimitError
from p2pnet.model.jobs import UploadRequest


def test_old_uploads_make_room_and_used_ones_stay(tmp_path, monkeypatch):
    spool = Uploads(tmp_path / "uploads")
    spool.open()
    old, used = (spool.announce(UploadRequest("f", 0)).upload for _ in range(2))
    spool.take({used})
    monkeypatch.setattr(uploads_module, "KEEP_S", -1.0)
    spool.announce(UploadRequest("f", 0))
    assert spool.read(used) == b""
    with pytest.raises(uploads_module.UnknownUploadError):
        spool.state(old)


def test_parts_that_do_not_fit_are_refused(tmp_path):
    spool = Uploads(tmp_path / "uploads")
    spool.open()
    upload = spool.announce(UploadRequest("f", 10)).upload
    with pytest.raises(uploads_module.OffsetError):
        spool.append(upload, 3, b"x")
    with pytest.raises(LimitError):
        spool.append(upload, 0, b"x" * 11)
    assert spool.append(upload, 0, b"x" * 10).offset == 10
