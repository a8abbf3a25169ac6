import assert from "node:assert/strict";
import { test } from "node:test";
import { Pace } from "../src/pace.js";

test("what is asked for often is done once, and the more it takes the more seldom", () => {
  let at = 0;
  let done = 0;
  let takes = 200;
  const timers = [];
  const pace = new Pace(() => ((done += 1), (at += takes)), null, { now: () => at, later: (act, ms) => timers.push([act, ms]) });
  pace.ask();
  pace.ask();
  assert.deepEqual(timers.map(([, ms]) => ms), [150]);
  timers[0][0]();
  pace.ask();
  assert.deepEqual([done, timers[1][1]], [1, 2000]);
  at += 1900;
  timers[1][0]();
  at += 5000;
  pace.ask();
  assert.deepEqual([done, timers[2][1]], [2, 150]);
  takes = 4000;
  timers[2][0]();
  pace.ask();
  assert.equal(timers[3][1], 3000); // not ten times 4 s
  pace.stop();
  pace.ask();
  assert.equal(timers.length, 4);
});
