/** What the page adds to an answer's formatting. Each loads what it needs with the first use. */

import { fillCode } from "./code.js";
import { drawMath } from "./math.js";

export const TOOLS = { code: fillCode, math: drawMath };
