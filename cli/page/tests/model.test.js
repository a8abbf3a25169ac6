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
  assert.deepEqual(circle.path(0), [1, 0]);
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
  assert.equal(reach(journeys, 4).due[0], 3);
  assert.equal(reach([], 4), null);
  assert.deepEqual(thinned([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 4), [0, 3, 6, 9]);
});
