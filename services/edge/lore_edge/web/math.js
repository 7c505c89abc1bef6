/** Formulas in TeX, found in Markdown and drawn as MathML. The library is loaded with the first one. */

import { element } from "./draw.js";
import { runInSlices } from "./slices.js";

/** Longer formulas stay text. */
const MAX_CHARS = 1000;
const MAX_CACHED = 200;
const PAIRS = [["$$", "$$", true], ["\\[", "\\]", true], ["\\(", "\\)", false]];

/** Adds the rules that find formulas to a markdown-it instance. */
export function findMath(markdown) {
  markdown.inline.ruler.before("escape", "math", inline);
  markdown.block.ruler.before("table", "math", block, { alt: ["paragraph", "blockquote"] });
}

function inline(state, silent) {
  const { src, pos } = state;
  const found = src[pos] === "$" || src[pos] === "\\" ? formulaAt(src, pos) : null;
  if (!found) return false;
  if (!silent) push(state, "math_inline", found, src.slice(pos, found.end));
  state.pos = found.end;
  return true;
}

function formulaAt(src, pos) {
  for (const [opening, closing, display] of PAIRS) {
    if (!src.startsWith(opening, pos)) continue;
    const from = pos + opening.length;
    const at = src.slice(from, from + MAX_CHARS).indexOf(closing);
    if (at < 1) return null;
    return { tex: src.slice(from, from + at), display, end: from + at + closing.length };
  }
  return src[pos] === "$" ? betweenDollars(src, pos) : null;
}

/** Matches `$x$`, but neither prices ($5) nor variables ($HOME): no spaces inside, no word behind. */
function betweenDollars(src, pos) {
  const at = src.slice(pos + 1, pos + MAX_CHARS).search(/(?<!\\)\$/);
  if (at < 1) return null;
  const tex = src.slice(pos + 1, pos + 1 + at);
  const end = pos + at + 2;
  if (/^\s|\s$|\n/.test(tex) || /[\w$]/.test(src[end] ?? "")) return null;
  return { tex, display: false, end };
}

/** A formula on lines of its own. */
function block(state, startLine, endLine, silent) {
  const line = (at) => state.src.slice(state.bMarks[at] + state.tShift[at], state.eMarks[at]).trimEnd();
  const pair = PAIRS.find(([opening, , display]) => display && line(startLine).startsWith(opening));
  if (!pair) return false;
  const [opening, closing] = pair;
  let at = startLine;
  let first = line(startLine).slice(opening.length);
  while (!(at === startLine ? first : line(at)).endsWith(closing)) {
    at += 1;
    if (at >= endLine || !line(at) || state.sCount[at] < state.blkIndent) return false;
  }
  const source = state.getLines(startLine, at + 1, state.blkIndent, false).trim();
  const tex = source.slice(opening.length, -closing.length);
  if (!tex.trim() || tex.length > MAX_CHARS || tex.includes(closing)) return false;
  if (silent) return true;
  push(state, "math_block", { tex, display: true }, source).map = [startLine, at + 1];
  state.line = at + 1;
  return true;
}

function push(state, type, { tex, display }, source) {
  const token = state.push(type, "", 0);
  Object.assign(token, { content: source, meta: { tex, display } });
  return token;
}

let temml = null;
let loading = null;
/** Formulas that were drawn before the library was loaded. */
const waiting = new Set();
const drawn = new Map();

/** A formula. It is shown as written until the library is loaded, and if it is not valid TeX. */
export function drawMath({ tex, display }, source) {
  const node = element("span", [source], display ? "math display" : "math");
  if (display) node.tabIndex = 0; // A wide formula scrolls, and must also scroll by keyboard.
  if (temml) fill(node, tex, display);
  else wait(() => node.isConnected && fill(node, tex, display));
  return node;
}

function wait(draw) {
  waiting.add(draw);
  loading ??= import("./vendor/temml.js").then(
    (module) => {
      temml = module.default;
      runInSlices(waiting);
    },
    () => (loading = null), // The next formula tries again.
  );
}

function fill(node, tex, display) {
  const key = `${display}${tex}`;
  if (!drawn.has(key)) {
    if (drawn.size >= MAX_CACHED) drawn.delete(drawn.keys().next().value);
    drawn.set(key, render(tex, display));
  }
  const math = drawn.get(key);
  if (math) node.replaceChildren(math.cloneNode(true));
}

function render(tex, displayMode) {
  try {
    const tree = temml.__renderToMathMLTree(tex, { displayMode, throwOnError: true, maxExpand: 100 });
    styleByObject(tree);
    return tree.toNode();
  } catch {
    return null;
  }
}

/** Sets styles by script, because the page's policy refuses style attributes. */
function styleByObject(node) {
  const { style, ...others } = node.attributes ?? {};
  if (style) {
    node.attributes = others;
    for (const [, name, value] of style.matchAll(/([\w-]+):\s*([^;]+)/g)) node.style[name] = value;
  }
  node.children?.forEach(styleByObject);
}
