import assert from "node:assert/strict";
import { test } from "node:test";

import { runInSlices } from "../../../services/edge/lore_edge/web/slices.js";

test("work that takes long is done in slices, in its order and each part once", async (t) => {
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const done = [];
  const afterFirst = new Promise((resolve) => {
    const work = (name, ms, then) => () => {
      now += ms;
      done.push(name);
      then?.();
    };
    const waiting = new Set([work("a", 3), work("b", 6), work("c", 1, () => waiting.add(work("e", 1, resolve))), work("d", 1)]);
    runInSlices(waiting);
  });
  assert.deepEqual(done, ["a", "b"]);
  await afterFirst;
  assert.deepEqual(done, ["a", "b", "c", "d", "e"]);
});
