from datetime import timedelta
from pathlib import Path

import pytest
from tests.node.kit import SubnetDir

from p2pnet.model.errors import SpecError
from p2pnet.node.identity import IdentityFiles, what_changed
from p2pnet.trust import Authority, Identity


@pytest.fixture
def subnet(tmp_path: Path) -> SubnetDir:
    return SubnetDir(tmp_path)


def watch(subnet: SubnetDir) -> tuple[IdentityFiles, Path, list[str]]:
    directory = subnet.folder / "identity"
    subnet.identity(subnet.uri("node-0")).write(directory)
    return IdentityFiles(directory, subnet.uri("node-0"), now=subnet.now), directory, []


def look(watched: IdentityFiles, subnet: SubnetDir, changes: list[str]) -> None:
    watched.reload(subnet.now, lambda old, new: changes.append(what_changed(old, new)))


def test_files_that_stay_as_they_are_change_nothing(subnet: SubnetDir) -> None:
    watched, _, changes = watch(subnet)
    look(watched, subnet, changes)
    assert (changes, watched.version, watched.problem) == ([], 1, "")


def test_a_new_leaf_is_taken(subnet: SubnetDir) -> None:
    watched, directory, changes = watch(subnet)
    new = subnet.identity(subnet.uri("node-0"))
    new.write(directory)
    look(watched, subnet, changes)
    assert (changes, watched.version) == (["leaf"], 2)
    assert watched.current == new


def test_a_new_bundle_is_taken(subnet: SubnetDir) -> None:
    watched, directory, changes = watch(subnet)
    other = Authority.create("next", now=subnet.now, ttl=timedelta(days=1))
    old = watched.current
    Identity(old.chain_pem, old.key_pem, old.bundle_pem + other.certificate_pem).write(directory)
    look(watched, subnet, changes)
    assert changes == ["bundle"]


def test_the_old_pair_stays_until_key_and_leaf_match(subnet: SubnetDir) -> None:
    watched, directory, changes = watch(subnet)
    old, new = watched.current, subnet.identity(subnet.uri("node-0"))
    (directory / "tls.key").write_bytes(new.key_pem)
    look(watched, subnet, changes)
    assert (watched.current, changes) == (old, [])
    assert "tls.key" in watched.problem
    (directory / "tls.crt").write_bytes(new.chain_pem)
    look(watched, subnet, changes)
    assert (watched.current, changes, watched.problem) == (new, ["leaf"], "")


@pytest.mark.parametrize("wrong", ["another name", "another authority", "expired", "garbage", "absent"])
def test_an_identity_that_does_not_fit_is_not_taken(subnet: SubnetDir, wrong: str) -> None:
    watched, directory, changes = watch(subnet)
    uri, other = subnet.uri("node-0"), Authority.create("other", now=subnet.now, ttl=timedelta(days=1))
    if wrong == "another name":
        subnet.identity(subnet.uri("node-1")).write(directory)
    elif wrong == "another authority":
        subnet.identity(uri, authority=other).write(directory)
    elif wrong == "expired":
        subnet.identity(uri, now=subnet.now - timedelta(hours=3)).write(directory)
    elif wrong == "garbage":
        (directory / "tls.crt").write_text("nonsense")
    else:
        (directory / "ca.crt").unlink()
    look(watched, subnet, changes)
    assert (changes, watched.version) == ([], 1)
    assert watched.problem


def test_a_node_without_a_usable_identity_does_not_start(subnet: SubnetDir) -> None:
    with pytest.raises(SpecError, match=r"tls\.crt"):
        IdentityFiles(subnet.folder / "absent", subnet.uri("node-0"), now=subnet.now)
    _, directory, _ = watch(subnet)
    with pytest.raises(SpecError, match="this node is"):
        IdentityFiles(directory, subnet.uri("node-1"), now=subnet.now)


def test_a_leaf_that_has_ended_is_shown_where_that_is_the_point_and_nowhere_else(subnet: SubnetDir) -> None:
    directory = subnet.folder / "identity"
    authority = Authority.create("old", now=subnet.now - timedelta(days=1))
    leaf = authority.issue(subnet.uri("node-0"), now=subnet.now - timedelta(hours=2), ttl=timedelta(hours=1))
    Identity.of(leaf, authority.certificate_pem).write(directory)
    with pytest.raises(SpecError, match="expired"):
        IdentityFiles(directory, subnet.uri("node-0"), now=subnet.now)
    shown = IdentityFiles(directory, subnet.uri("node-0"), now=subnet.now, may_have_ended=True)
    assert shown.current.not_after < subnet.now
    with pytest.raises(SpecError, match="is for"):
        IdentityFiles(directory, subnet.uri("node-1"), now=subnet.now, may_have_ended=True)
