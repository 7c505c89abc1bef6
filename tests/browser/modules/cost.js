/**
 * What it costs to format a text, in steps instead of seconds: how often V8 ran each block of the
 * formatting's code. Native work (a regular expression's) is not counted; no text that it works
 * on is longer than a window.
 */

import { Session } from "node:inspector/promises";

const FORMATTING = /\/web\/(markdown|math|render|draw|highlight|vendor\/markdown-it)\.js$/;

export async function counter() {
  const session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  const take = async () => (await session.post("Profiler.takePreciseCoverage")).result;
  return async function steps(run) {
    await take();
    run();
    const ran = (await take()).filter(({ url }) => FORMATTING.test(url));
    const ranges = ran.flatMap(({ functions }) => functions.flatMap((one) => one.ranges));
    return ranges.reduce((sum, { count }) => sum + count, 0);
  };
}
