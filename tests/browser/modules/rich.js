/**
 * Answers whose drawing needs a library: code with colours and formulas, each of about `n` UTF-16
 * units. `DRAWN` selects what is there once the library has drawn a part of the answer.
 */

/** Units that differ: `make(i)` for i = 0, 1, … until there are n characters. */
const grow = (make) => (n) => {
  let text = "";
  for (let i = 0; text.length < n; i += 1) text += make(i);
  return text;
};

const python = (i) => `def f${i}(x, y=${i}):\n    """Add ${i}."""\n    return x + y * ${i}.5  # "no string"\n\n`;
const script = (i) => `const a${i} = (b) => \`\${b} and ${i}\`; // one\n`;
const inline = (i) => `For $x_{${i}}^2 + \\sqrt{y}$ see $\\frac{${i}}{n}$, which costs $5.\n\n`;
const display = (i) => `$$\n\\sum_{k=${i}}^{n} \\binom{n}{k} \\int_0^\\infty e^{-k x^2} \\, dx = ${i}\n$$\n\n`;

export const SHAPES = {
  "one long Python block": (n) => `\`\`\`python\n${grow(python)(n)}\`\`\``,
  "one long JavaScript block": (n) => `\`\`\`js\n${grow(script)(n)}\`\`\``,
  "many Python blocks": grow((i) => `Step ${i}:\n\n\`\`\`python\n${python(i)}\`\`\`\n\n`),
  "JSON in one line": (n) => `\`\`\`json\n[${grow((i) => `{"a": ${i}, "b": "c"}, `)(n)}]\n\`\`\``,
  "formulas in text": grow(inline),
  "formulas on their own lines": grow(display),
  "one formula again and again": grow(() => display(1)),
  "code and formulas by turns": grow((i) => `\`\`\`python\n${python(i)}\`\`\`\n\n${inline(i)}${display(i)}`),
};

export const DRAWN = "#text .code code span, #text math";
