import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, count, inUnit, ms, percent, plural, tick } from "../src/format.js";
import { duplicates, faultSpan, faults, hops, latency, names, reach, series, shares, traffic } from "../src/options.js";
import { mixed, ofHop } from "../src/theme.js";

const COLOURS = { curves: Array(8).fill("#000"), ramp: ["#000"], heat: ["#000", "#fff"], ink: "#000", quiet: "#666", card: "#fff", line: "#ddd", accent: "#00f", pass: "#0f0", fail: "#f00", hot: "#f80", page: "#eee", wash: "#eef" };
const curve = (points, more = {}) => ({ run: "r", label: "", points_ms: points, reach: 1, p50: points[0], p95: points[0], ...more });

test("quantities are in the words of the report", () => {
  assert.deepEqual([0, 0.42, 5.25, 141, 2310, 12_000, null, Infinity].map(ms), ["0 ms", "0.42 ms", "5.3 ms", "141 ms", "2.31 s", "12.0 s", "\u2013", "\u2013"]);
  assert.deepEqual([0, 1023, 65536, 1.5 * 2 ** 20, 3 * 2 ** 50].map(bytes), ["0 B", "1023 B", "64 KiB", "1.5 MiB", "3070 TiB"]);
  assert.deepEqual([percent(9999, 10000), percent(1, 1e6), percent(3, 3), percent(0, 3), percent(0, 0)], ["99.9 %", "0.1 %", "100 %", "0 %", "\u2013"]);
  assert.deepEqual([plural(1, "node"), plural(1234, "node"), count(1e6)], ["1 node", "1,234 nodes", "1,000,000"]);
  assert.deepEqual([tick(500), tick(2500), inUnit(2048, "B/s"), inUnit(null, "B"), inUnit(3, "")], ["500 ms", "2.5 s", "2 KiB/s", "\u2013", "3"]);
});

test("a curve begins at nothing and ends level with what came", () => {
  assert.deepEqual(shares(curve([10, 20, 30], { reach: 0.5 }), 40), [[10, 0], [10, 0], [20, 25], [30, 50], [40, 50]]);
  assert.deepEqual(shares(curve([10]), 10), [[10, 0], [10, 100]]);
  assert.deepEqual(shares(curve([]), 10), []);
});

test("curves of one name are told apart", () => {
  assert.deepEqual(names([{ run: "a" }, { run: "b", label: "a" }, { run: "c", label: "x" }]), ["a", "a (2)", "x"]);
});

test("nothing to draw is no chart", () => {
  assert.equal(latency({ curves: [curve([])], limits: [] }, COLOURS), null);
  assert.equal(hops([], COLOURS), null);
  assert.equal(reach(null, [], COLOURS), null);
  assert.equal(traffic({ labels: [], payload: [] }, COLOURS), null);
  assert.equal(traffic(undefined, COLOURS), null);
  assert.equal(duplicates({ total: 0 }, [], COLOURS), null);
  assert.equal(faults([], null, [], COLOURS), null);
  assert.equal(series(null, [], COLOURS), null);
});

test("an expectation far beyond the slowest receipt does not stretch the axis", () => {
  const limits = [{ expr: "p95 <= 1s", ms: 1000, ok: true }, { expr: "p50 <= 12ms", ms: 12, ok: false }];
  const { series: [one], xAxis } = latency({ curves: [curve([5, 10])], limits }, COLOURS);
  assert.deepEqual(one.markLine.data.map((line) => line.xAxis), [12]);
  assert.ok(xAxis.max < 13);
});

test("all receipts at once, at no time, still make a chart", () => {
  assert.ok(latency({ curves: [curve([0, 0])], limits: [] }, COLOURS).xAxis.max > 0);
  assert.ok(latency({ curves: [curve([0, 0])], limits: [] }, COLOURS, { log: true }));
});

test("the axis of faults is about the run, however long they last", () => {
  assert.deepEqual(faultSpan([{ from_s: -900, to_s: 4000 }], { span_s: 10 }), [-2.5, 15]);
  assert.deepEqual(faultSpan([{ from_s: 1, to_s: null }], null), [0, 1]);
  assert.deepEqual(faultSpan([{ from_s: 20, to_s: 50 }], null), [0, 50]); // nothing was published yet
});

test("colours are mixed, and hops spread over the ramp", () => {
  assert.equal(mixed("#000000", "#ffffff", 0.5), "#808080");
  assert.deepEqual([1, 2, 3, 9].map((hop) => ofHop(["a", "b", "c"], hop, 3)), ["a", "b", "c", "c"]);
});
