import assert from "node:assert/strict";
import { test } from "node:test";
import { curve, hops, reach, thinned } from "../src/aggregates.js";
import { Journey, Model, SCHEMA } from "../src/model.js";

const snapshot = () => ({
  schema: SCHEMA, run: "r", nodes: { name: ["a", "b", "c", "d"], group: [0, 0, 0, 0], groups: ["g"], adversaries: [] },
  artifacts: { id: ["aa"], name: [""], publisher: [0], at_us: [0], size: [10], total: 1, first: 0 },
  latency: { curves: [{ run: "r", points_ms: [1, 2], reach: 1, expected: 2 }], limits: [] },
  events: [{ artifact: 0, node: [1, 2], after_us: [1000, 3000], hop: [1, 2], from: [0, 1] }],
});

test("receipts may come in any order, and the first of a node counts", () => {
  const journey = new Journey(4, 0, 0);
  journey.append({ node: [2, 1], after_us: [3000, 1000], hop: [2, 1], from: [1, 0] });
  journey.append({ node: [2, 3], after_us: [2000, 500], hop: [2, 1], from: [1, 0] });
  journey.append({ node: [2], after_us: [9000], hop: [9], from: [0] });
  assert.deepEqual(journey.order, [3, 1, 2]);
  assert.equal(journey.arrival[2], 2000);
  assert.equal(journey.hop[2], 2);
  assert.equal(journey.spanUs, 2000);
});

test("what had come by a time is found between receipts", () => {
  const { journeys: [journey] } = new Model(snapshot());
  assert.deepEqual([-1, 0, 999, 1000, 2999, 3000, 1e9].map((us) => journey.reachedBy(us)), [0, 0, 0, 1, 1, 2, 2]);
});

test("a way leads back to the publisher, and a circle of senders ends", () => {
  const { journeys: [journey] } = new Model(snapshot());
  assert.deepEqual(journey.path(2), [0, 1, 2]);
  assert.equal(journey.wait(2), 2000);
  assert.equal(journey.parent(0), null);
  const circle = new Journey(3, -1, 0);
  circle.append({ node: [0, 1], after_us: [5, 5], hop: [1, 1], from: [1, 0] });
  assert.deepEqual([circle.path(0), circle.path(1)], [[0], [0, 1]]); // cut at its first receipt
});

test("a sender that validated later is the parent by its hop, and no wait is told", () => {
  const journey = new Journey(3, 0, 0);
  journey.append({ node: [1, 2], after_us: [50, 20], hop: [1, 2], from: [0, 1] });
  assert.equal(journey.parent(2), 1);
  assert.equal(journey.wait(2), null);
});

test("a receipt of nobody known, or of the publisher itself, is left aside", () => {
  const journey = new Journey(2, 0, 0);
  journey.append({ node: [0, 7, -1], after_us: [1, 1, 1], hop: [1, 1, 1], from: [1, 1, 1] });
  assert.deepEqual(journey.order, []);
  assert.equal(journey.spanUs, 0);
});

test("until something is appended the snapshot's own figures are shown, afterwards those of all receipts", () => {
  const model = new Model(snapshot());
  assert.deepEqual(model.latency().curves[0].points_ms, [1, 2]);
  const told = [];
  const stop = model.listen((batch) => told.push(batch.node[0]));
  model.append({ artifact: 0, node: [3], after_us: [7000], hop: [2], from: [1] });
  stop();
  model.append({ artifact: 0, node: [3], after_us: [6000], hop: [2], from: [1] });
  assert.deepEqual(told, [3]);
  assert.deepEqual(model.latency().curves[0], { run: "r", points_ms: [1, 3, 6], reach: 1, expected: 3 });
  assert.equal(model.reach().received.at(-1), 3);
  assert.deepEqual(model.hops().map((one) => [one.hop, one.count]), [[1, 1], [2, 2]]);
});

test("an artifact may be announced while the run goes on", () => {
  const model = new Model({ ...snapshot(), artifacts: undefined, events: [] });
  const told = [];
  model.listen(({ artifact, node }) => told.push([artifact, node.length]));
  const number = model.announce({ id: "bb", publisher: 2, at_us: 500 });
  model.append({ artifact: number, node: [0], after_us: [10], hop: [1], from: [2] });
  assert.equal(model.journeys[number].reachedBy(10), 1);
  assert.deepEqual(told, [[0, 0], [0, 1]]);
  assert.equal(model.snapshot.artifacts.total, 1);
  assert.throws(() => model.append({ artifact: 9, node: [] }), /no artifact 9/);
});

test("a document of another kind is refused", () => {
  assert.throws(() => new Model({ schema: "other" }), /this page reads/);
});

test("sums are by nearest rank and bounded", () => {
  const { journeys } = new Model(snapshot());
  assert.deepEqual(curve(journeys), [1, 3]);
  assert.deepEqual(hops(journeys)[1], { hop: 2, count: 1, since_ms: [3, 3, 3, 3, 3], wait_ms: [2, 2, 2, 2, 2] });
  assert.equal(reach(journeys, () => 3).due[0], 3);
  assert.equal(reach([], () => 3), null);
  assert.deepEqual(thinned([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 4), [0, 3, 6, 9]);
});

test("of nodes that do not behave no receipt is expected", () => {
  const known = snapshot();
  Object.assign(known.nodes, { adversaries: [3], behaviours: ["silent"] });
  const model = new Model(known);
  const byBad = model.announce({ id: "bb", publisher: 3, at_us: 10 });
  assert.deepEqual(model.journeys.map((one) => model.expected(one)), [2, 3]);
  assert.equal(model.latency().curves[0].expected, 5);
  assert.equal(model.reach().due.at(-1), 5);
  assert.deepEqual([model.behaviour(3), model.behaviour(0), byBad], ["silent", "", 1]);
});

test("parts are told anew, nodes go down and come back, and of a live run its own reach is shown", () => {
  const model = new Model({ ...snapshot(), live: true });
  const told = [];
  model.listen(({ artifact, parts, states }) => told.push([artifact, parts, states]));
  model.append({ artifact: 0, node: [3], after_us: [7000], hop: [2], from: [1] });
  assert.equal(model.reach(), null);
  const reach = { span_s: 1, due: [3], received: [2] };
  model.update({ reach, traffic: { labels: [] } });
  assert.equal(model.reach(), reach);
  model.tellStates({ paused: [1], stopped: [2, 3] });
  assert.deepEqual([...model.down], [[1, "paused"], [2, "stopped"], [3, "stopped"]]);
  model.tellStates({});
  assert.equal(model.down.size, 0);
  assert.deepEqual(told.slice(1), [[-1, ["reach", "traffic"], undefined], [-1, undefined, true], [-1, undefined, true]]);
});

test("the oldest artifacts are let go, and the numbers of the others become less", () => {
  const model = new Model(snapshot());
  for (const id of ["bb", "cc"]) model.announce({ id, publisher: 1, at_us: 5 });
  const told = [];
  model.listen(({ forgotten }) => told.push(forgotten));
  model.forget(2);
  assert.deepEqual([told, model.snapshot.artifacts.id, model.journeys.map((one) => one.publisher)], [[2], ["cc"], [1]]);
});
