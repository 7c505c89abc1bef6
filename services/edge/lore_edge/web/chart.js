/** A small chart of the window over time: tokens generated, acknowledged, and the credit. */

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 320;
const HEIGHT = 120;
const MAX_SAMPLES = 600;
const MIN_SPAN_MS = 10_000;

export class Chart {
  /** @param {SVGElement} root with a view box of 320 × 120 */
  constructor(root) {
    this.#root = root;
    const names = ["unread", "credit", "acked", "generated"];
    for (const name of names) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", name);
      this.#paths[name] = path;
    }
    root.replaceChildren(...names.map((name) => this.#paths[name]));
  }

  #root;
  #paths = {};
  #samples = [];

  /** One sample: `atMs` on any one clock, the others in tokens. */
  add(atMs, generated, acked, credit) {
    // Of a stretch without change, only the two ends are needed.
    const same = (s) => s?.generated === generated && s.acked === acked && s.credit === credit;
    if (same(this.#samples.at(-1)) && same(this.#samples.at(-2))) this.#samples.pop();
    this.#samples.push({ atMs, generated, acked, credit });
    if (this.#samples.length > MAX_SAMPLES) this.#samples.shift();
    this.#draw();
  }

  #draw() {
    const samples = this.#samples;
    const from = samples[0].atMs;
    const span = Math.max(MIN_SPAN_MS, samples.at(-1).atMs - from);
    const top = Math.max(1, ...samples.map(({ credit }) => credit));
    const x = ({ atMs }) => (((atMs - from) / span) * WIDTH).toFixed(1);
    const y = (tokens) => (HEIGHT - 2 - (tokens / top) * (HEIGHT - 6)).toFixed(1);
    const line = (name, list = samples) => list.map((s) => `${x(s)} ${y(s[name])}`).join("L");
    for (const name of ["credit", "acked", "generated"]) {
      this.#paths[name].setAttribute("d", `M${line(name)}`);
    }
    const unread = `M${line("generated")}L${line("acked", samples.toReversed())}Z`;
    this.#paths.unread.setAttribute("d", unread);
    const { generated, acked } = samples.at(-1);
    const label = `Tokens over time: ${generated} generated, ${acked} acknowledged`;
    this.#root.setAttribute("aria-label", label);
  }
}
