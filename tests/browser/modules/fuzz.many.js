/**
 * Many generated answers (fuzz.js) in node:
 *
 *     node tests/browser/modules/fuzz.many.js --inputs 1000000 --seed 1
 *
 * An input has a number; `--only NUMBER` runs that one again.
 */

import { parseArgs } from "node:util";

import { fuzz } from "./fuzz.js";

const { values } = parseArgs({
  options: {
    inputs: { type: "string", default: "1000000" },
    seed: { type: "string", default: String(Date.now() % 1e6) },
    only: { type: "string" },
  },
});
const [inputs, seed] = [Number(values.inputs), Number(values.seed)];
const only = values.only === undefined ? null : Number(values.only);
const failed = fuzz({ inputs, seed, only });
console.log(`seed ${seed}: ${only === null ? inputs : 1} inputs, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
