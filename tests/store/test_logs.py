"""Logs as files: of whom a line tells, what a run keeps, what outlives the subnet, and that nothing grows without end."""

import shutil
from pathlib import Path

import pytest

from p2pnet.model.errors import SpecError
from p2pnet.model.log_lines import stamp
from p2pnet.store import State, logs
from p2pnet.store.logs import LogQuery

T = 1_795_911_600.0


def line(t: float, text: str, level: str = "INFO", logger: str = "p2pnet.node") -> str:
    return f"{stamp(T + t)} {level} {logger}: {text}\n"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / f"{name}.log" for name in ("lab", "node-0", "node-1")}
    found["lab"].write_text(
        line(0, "at work", logger="p2pnet.lab")
        + line(3, "node-1: ended with signal 9 (SIGKILL)", "WARNING", "p2pnet.lab.nodes")
    )
    found["node-0"].write_text(
        line(1, "serves") + line(2, "bad", "ERROR") + "Traceback ...\n  boom\n" + line(4, "after")
    )
    found["node-1"].write_text("printed before any line\n" + line(2.5, "serves"))
    return found


def read(files: dict[str, Path], **query) -> list[tuple[str, str, str]]:
    found = logs.read_all(files, LogQuery(**query), logs.ends_of(files))
    return [(one.node, one.level, one.line.rpartition(": ")[2]) for one in found]


def test_lines_are_merged_by_time_and_every_one_has_a_level(files):
    assert read(files) == [
        ("node-1", "INFO", "printed before any line"), ("lab", "INFO", "at work"), ("node-0", "INFO", "serves"),
        ("node-0", "ERROR", "bad"), ("node-0", "ERROR", "Traceback ..."), ("node-0", "ERROR", "  boom"),
        ("node-1", "INFO", "serves"), ("node-1", "WARNING", "ended with signal 9 (SIGKILL)"), ("node-0", "INFO", "after"),
    ]  # fmt: skip


def test_what_the_lab_says_about_a_node_is_the_nodes(files):
    assert [text for *_, text in read(files, nodes=("node-1",))] == [
        "printed before any line", "serves", "ended with signal 9 (SIGKILL)",
    ]  # fmt: skip
    assert read(files, nodes=("lab",)) == [("lab", "INFO", "at work")]
    with pytest.raises(SpecError, match="there is no node 'node-7'; there are lab, node-0, node-1"):
        read(files, nodes=("node-7",))


def test_a_node_without_a_file_is_one_the_lab_tells_of_where_nodes_log_elsewhere(files):
    found = logs.read_all({"lab": files["lab"]}, LogQuery(nodes=("node-1",)), logs.ends_of(files), members=["node-1"])
    assert [line.node for line in found] == ["node-1"]


def test_a_lab_that_was_killed_is_known_by_what_it_did_not_say(tmp_path):
    path = tmp_path / "lab.log"
    assert logs.cut_short(path) == ""
    path.write_text(line(0, "subnet demo: the lab is at work (pid 1)") + line(5, "something") + "half a li")
    assert logs.cut_short(path) == stamp(T + 5)
    with path.open("a") as more:
        more.write("\n" + line(6, "the lab stops: it got SIGTERM"))
    assert logs.cut_short(path) == ""


@pytest.mark.parametrize(
    ("text", "level", "node"),
    [
        ('{"event":"exited","name":"node-1","code":-9,"order":""}', "WARNING", "node-1"),
        ('{"event":"exited","name":"node-1","code":-9,"order":"kill"}', "INFO", "node-1"),
        ('{"event":"halted","name":"node-1"}', "WARNING", "node-1"),
        ('{"event":"ready","name":"node-0","pid":7}', "INFO", "node-0"),
        ('{"event":"supervisor","pid":1}', "INFO", "node-0 node-1"),
        ('{"event":"half a l', "INFO", "node-0 node-1"),
    ],
)
def test_the_words_of_a_pods_supervisor_have_levels_and_tell_of_its_nodes(text, level, node):
    assert logs.about(text, "node-0 node-1") == (level, node)


def test_a_span_of_time_and_a_tail_are_respected(files):
    assert [text for *_, text in read(files, since=T + 2.4, until=T + 3)] == ["serves", "ended with signal 9 (SIGKILL)"]
    assert [text for *_, text in read(files, nodes=("node-1",), tail=1)] == ["ended with signal 9 (SIGKILL)"]


def test_a_clock_that_is_set_back_changes_no_order_of_a_nodes_own_lines(tmp_path):
    path = tmp_path / "node-0.log"
    path.write_text(line(10, "one") + line(5, "two") + line(11, "three"))
    assert [text for *_, text in read({"node-0": path})] == ["one", "two", "three"]


# --- bounds ---


def test_a_log_that_has_become_long_is_begun_anew_and_its_last_part_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "LOG_BYTES_MAX", 1000)
    monkeypatch.setattr(logs, "LOG_BYTES_MIN", 1000)
    path = tmp_path / "node-0.log"
    with path.open("a") as writer:  # a process that goes on writing
        for number in range(100):
            writer.write(line(number, f"line {number}"))
            writer.flush()
            logs.rotate({"node-0": path})
            assert path.stat().st_size <= 1000
    former = path.with_name("node-0.log.1")
    assert former.stat().st_size <= 1100
    shown = [text for *_, text in read({"node-0": path})]
    assert shown[-1] == "line 99"
    assert len(shown) > 10


def test_where_there_is_no_room_for_the_former_part_the_log_is_cut_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "LOG_BYTES_MIN", 10)
    monkeypatch.setattr(logs, "LOG_BYTES_MAX", 10)
    path = tmp_path / "node-0.log"
    path.write_text(line(0, "x"))
    monkeypatch.setattr(shutil, "copyfileobj", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert logs.rotate({"node-0": path}) == ["node-0"]
    assert path.stat().st_size == 0
    assert not path.with_name("node-0.log.1").exists()


def test_a_former_part_that_can_neither_be_written_nor_removed_keeps_no_log_from_being_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "LOG_BYTES_MIN", 10)
    monkeypatch.setattr(logs, "LOG_BYTES_MAX", 10)
    path = tmp_path / "node-0.log"
    path.write_text(line(0, "x"))
    path.with_name("node-0.log.1").mkdir()
    assert logs.rotate({"node-0": path}) == ["node-0"]
    assert path.stat().st_size == 0


async def test_whoever_follows_sees_what_comes_after_a_log_was_begun_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "FOLLOW_S", 0.0)
    path = tmp_path / "node-0.log"
    path.write_text(line(0, "old") * 50)
    files = {"node-0": path}
    following = logs.follow(lambda: files, LogQuery(), logs.ends_of(files))
    assert await anext(following) == []
    path.write_text(line(1, "new"))
    assert [one.line.rpartition(": ")[2] for one in await anext(following)] == ["new"]


# --- kept with a run ---


def kept_with_run(path: Path) -> list[tuple[str, str, str]]:
    return [(one.node, one.level, one.line.rpartition(": ")[2]) for one in logs.read_run(path, LogQuery())]


def test_a_run_keeps_what_was_logged_while_it_was_on(files, tmp_path):
    begun = logs.ends_of(files)
    with files["node-0"].open("a") as more:
        more.write(line(10, "in the run") + line(20, "after the run"))
    with files["lab"].open("a") as more:
        more.write(line(11, "node-1: silent for 6 s", "WARNING", "p2pnet.lab.nodes"))
    warnings = logs.write_run(tmp_path / "logs.ndjson", files, begun, T + 9, T + 15)
    assert kept_with_run(tmp_path / "logs.ndjson") == [
        ("node-0", "INFO", "in the run"), ("node-1", "WARNING", "silent for 6 s")
    ]  # fmt: skip
    assert [one.node for one in warnings] == ["node-1"]


def test_a_log_begun_anew_in_a_run_loses_the_run_nothing(files, tmp_path, monkeypatch):
    begun = logs.ends_of(files)
    with files["node-0"].open("a") as more:
        more.write(line(10, "in the run"))
    monkeypatch.setattr(logs, "LOG_BYTES_MAX", 10)
    monkeypatch.setattr(logs, "LOG_BYTES_MIN", 100)
    logs.rotate({"node-0": files["node-0"]})
    with files["node-0"].open("a") as more:
        more.write(line(11, "too"))
    logs.write_run(tmp_path / "logs.ndjson", files, begun, T + 9, T + 15)
    assert ("node-0", "INFO", "too") in kept_with_run(tmp_path / "logs.ndjson")


def test_a_run_that_logs_too_much_says_that_it_was_cut(files, tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "RUN_LOG_BYTES_MAX", 2 << 20)
    with files["node-0"].open("a") as more:
        for number in range(30_000):
            more.write(line(10, f"much {number}"))
    path = tmp_path / "logs.ndjson"
    logs.write_run(path, files, {}, T, T + 15)
    assert path.stat().st_size < (2 << 20) + 1000
    *_, last = kept_with_run(path)
    assert last[:2] == ("lab", "WARNING")
    assert "more lines of this run are not kept, over 2 MiB" in last[2]


def test_a_run_without_logs_says_so(tmp_path):
    with pytest.raises(SpecError, match="no logs were kept"):
        logs.read_run(tmp_path / "logs.ndjson", LogQuery())


# --- kept after the subnet ---


def subnet(state: State, name: str, text: str) -> None:
    paths = state.subnet(name).make()
    paths.lab_log.write_text(line(0, text, logger="p2pnet.lab"))
    paths.node("node-0").root.mkdir(parents=True, exist_ok=True)
    paths.node("node-0").log.write_text(line(1, text))
    (paths.node("node-0").root / "node.log.1").write_text(line(-1, "former " + text))


def test_logs_outlive_their_subnet_and_are_replaced_by_those_of_the_next_of_that_name(tmp_path):
    state = State(tmp_path)
    for text in ("first", "second"):
        subnet(state, "demo", text)
        logs.keep(state.subnet("demo"))
        assert logs.files_of(state.subnet("demo")) == {}
        kept = logs.kept_files(state, "demo")
        assert [(node, words) for node, _, words in read(kept)] == [
            ("node-0", f"former {text}"), ("lab", text), ("node-0", text)
        ]  # fmt: skip
    assert (tmp_path / "logs" / "demo").stat().st_mode & 0o777 == 0o700


def test_the_logs_of_so_many_subnets_are_kept_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "KEPT_SUBNETS_MAX", 3)
    state = State(tmp_path)
    for number in range(5):
        subnet(state, f"s{number}", "x")
        logs.keep(state.subnet(f"s{number}"))
    assert len(list((tmp_path / "logs").iterdir())) == 3
    assert logs.kept_files(state, "s4")


def test_nothing_is_made_where_nothing_was_logged(tmp_path):
    state = State(tmp_path)
    state.subnet("demo").make()
    logs.keep(state.subnet("demo"))
    assert logs.kept_files(state, "demo") == {}
