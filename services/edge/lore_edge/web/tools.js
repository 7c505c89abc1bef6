/** Tools that format code and math in answers. Each loads what it needs with the first use. */

import { fillCode } from "./code.js";
import { drawMath } from "./math.js";

export const TOOLS = { code: fillCode, math: drawMath };
