import assert from "node:assert/strict";
import { test } from "node:test";
import { LAYERED_MAX, hopTree, ringMarks, rings } from "../src/layouts.js";
import { Journey } from "../src/model.js";

function journey(nodes, receipts) {
  const made = new Journey(nodes, 0, 0);
  for (const [node, us, hop, from] of receipts) made.append({ node: [node], after_us: [us], hop: [hop], from: [from] });
  return made;
}

test("a tree has its publisher on top, children below their parent in the order of arrival, and what is missing at the foot", () => {
  const at = hopTree(journey(5, [[1, 20, 1, 0], [2, 10, 1, 0], [3, 30, 2, 2]]), 5);
  assert.deepEqual([...at.y].map((one) => Math.round(one * 100) / 100), [1, 0, 0, -1, -1.67]);
  assert.ok(at.x[2] < at.x[1]);
  assert.equal(at.x[3], at.x[2]);
});

test("a wide picture has a wide tree", () => {
  const one = journey(3, [[1, 20, 1, 0], [2, 10, 1, 0]]);
  assert.equal(Math.max(...hopTree(one, 3, 2).x), 2);
});

test("a receipt whose sender is unknown begins a tree of its own", () => {
  const at = hopTree(journey(3, [[1, 20, 4, -1], [2, 30, 5, 1]]), 3);
  assert.deepEqual([...at.y], [1, 0, -1]);
});

test("senders in a circle are placed like others", () => {
  const at = hopTree(journey(3, [[1, 5, 1, 2], [2, 5, 1, 1]]), 3);
  assert.ok([...at.x, ...at.y].every(Number.isFinite));
  assert.ok(at.y[1] > -1.2 && at.y[2] > -1.2);
});

test("rings put nodes as far out as their latency", () => {
  const at = rings(journey(4, [[1, 50, 1, 0], [2, 100, 1, 0]]), 4);
  const out = [0, 1, 2, 3].map((node) => Math.round(Math.hypot(at.x[node], at.y[node]) * 100) / 100);
  assert.deepEqual(out, [0, 0.5, 1, 1.14]);
});

test("many nodes are a fan inside the picture, a long chain without recursion too", () => {
  const many = LAYERED_MAX * 200;
  const chain = new Journey(many, 0, 0);
  const nodes = Array.from({ length: many - 1 }, (_, index) => index + 1);
  chain.append({ node: nodes, after_us: nodes, hop: nodes.map((one) => Math.min(one, 65535)), from: nodes.map((one) => one - 1) });
  const at = hopTree(chain, many);
  assert.ok(nodes.every((node) => Math.hypot(at.x[node], at.y[node]) <= 1.0001));
});

test("rings have round marks", () => {
  assert.deepEqual(ringMarks(3480), [1000, 2000, 3000]);
  assert.deepEqual(ringMarks(400), [100, 200, 300, 400]);
  assert.deepEqual(ringMarks(0), []);
});
