import assert from "node:assert/strict";
import { test } from "node:test";

import { Node, useDom } from "./dom.js";

useDom();
const { MarkdownView } = await import("../../../services/edge/lore_edge/web/render.js");

/** `source` as the page shows it, in one line. */
function read(source, growing = false) {
  const root = new Node("root");
  new MarkdownView(root).show(source, growing);
  return root.childNodes.flatMap((part) => part.childNodes).join(" ");
}

const CASES = [
  ["one\ntwo\n\nthree", "p[onebr[]two] p[three]"],
  ["# Title\ntext\n### `x` #", "h3[Title] p[text] h5[code[x]]"],
  ["#hashtag", null],
  ["**bold**, *soft* and ***both***", "p[strong[bold], em[soft] and em[strong[both]]]"],
  ["**a *b* c**", "p[strong[a em[b] c]]"],
  ["2 * 3 * 4, snake_case_name, __init__, $HOME and $PATH", null],
  ["**never closed\n\nnext", "p[**never closed] p[next]"],
  ["\\*stars\\* and `\\*`", "p[*stars* and code[\\*]]"],
  ["``a`b`` and ` ` `", "p[code[a`b] and code[ ] `]"],
  ["```py\nif a:\n    b\n\n# c\n```\nafter", "div py[pre[code[if a:\n    b\n\n# c]]button[]] p[after]"],
  ["```\nopen **still", "div[pre[code[open **still]]button[]]"],
  ["~~~\n```\n~~~", "div[pre[code[```]]button[]]"],
  ["    indented", "p[indented]"],
  ["- a\n- b\n  - c\n- d", "ul[li[a]li[bul[li[c]]]li[d]]"],
  ["1. a\n\n2. b\n\nafter", "ol 1[li[p[a]]li[p[b]]] p[after]"],
  ["1. a\n   ```js\n   x()\n   ```\n2. b", "ol 1[li[adiv js[pre[code[x()]]button[]]]li[b]]"],
  ["1. a\n\n```js\nx\n```\n\n2. b", "ol 1[li[a]] div js[pre[code[x]]button[]] ol 2[li[b]]"],
  ["- one\ngoes on\n\nafter", "ul[li[onebr[]goes on]] p[after]"],
  ["> said\n> so", "blockquote[p[saidbr[]so]]"],
  ["a\n\n---\n* * *", "p[a] hr[] hr[]"],
  [
    "| a | b |\n|---|:-:|\n| `1` | 2 |",
    "div[table[thead[tr[th[a]th center[b]]]tbody[tr[td[code[1]]td center[2]]]]]",
  ],
  ["a | b, said she", null],
  ["[here](https://a.example/x_(y)) now", "p[a https://a.example/x_(y)[here] now]"],
  ["see https://a.example/b.", "p[see a https://a.example/b[https://a.example/b].]"],
  ["![a](https://a.example/b)", "p[!a https://a.example/b[a]]"],
  ["[a]\n\n[a]: https://a.example", "p[[a]] p[[a]: a https://a.example[https://a.example]]"],
  ["<b onclick=x>hi</b> &lt;", "p[<b onclick=x>hi</b> <]"],
  ["- [x] a\n- [ ] b\n- [y] c", "ul[li[span[]a]li[span[]b]li[[y] c]]"],
  ["1. [X] a\n\n   b [ ] c", "ol 1[li[p[span[]a]p[b [ ] c]]]"],
  ["$x^2$ and \\(a_1*b*\\), $5 to $6, $a $b$c", null],
  ["$$\na = b\n- c\n$$\nafter", "p[$$\na = b\n- c\n$$] p[after]"],
  ["a\r\nb\rc\0", "p[abr[]bbr[]c\ufffd]"],
];

for (const [source, expected] of CASES) {
  test(`reads ${JSON.stringify(source)}`, () => {
    assert.equal(read(source), expected ?? `p[${source}]`);
  });
}

const NO_LINKS = [
  "javascript:alert(1)", "JaVaScRiPt:alert(1)", "&#106;avascript:alert(1)", "java\\script:x",
  "data:text/html,x", "vbscript:x", "file:///x", "blob:null/x", "ftp://a.example",
  "//a.example", "/x", "x", "#x", "http:x", "https:///x", "mailto:a@b.example", "tel:1",
];

for (const target of NO_LINKS) {
  test(`a link to ${target} is text`, () => {
    for (const source of [`[x](${target})`, `[x](<${target}>)`, `<${target}>`, target]) {
      assert.doesNotMatch(read(source), /a .*\[/, source);
    }
  });
}

const GROWING = [
  ["a **bo", "p[a strong[bo]]"],
  ["a **b *c* d", "p[a strong[b em[c] d]]"],
  ["**a** **b", "p[strong[a] strong[b]]"],
  ["**a `b` **", "p[strong[a code[b] **]]"],
  ["a `co", "p[a code[co]]"],
  ["a `b` ``c`", "p[a code[b] code[c` ]]"],
  ["**a `co", "p[strong[a code[co]]]"],
  ["\\`a", "p[`a]"],
  ["- a **b", "ul[li[a strong[b]]]"],
  ["**bo\n\nnext", "p[**bo] p[next]"],
  ["**bo\n\n", "p[**bo]"],
];

for (const [source, expected] of GROWING) {
  test(`while the text grows, ${JSON.stringify(source)} counts as closed at its end`, () => {
    assert.equal(read(source, true), expected);
  });
}

/** What of `source` is drawn as formulas; a display is marked. */
function formulas(source) {
  const found = [];
  const math = ({ tex, display }) => {
    found.push(display ? `!${tex.trim()}` : tex);
    return new Node("math");
  };
  new MarkdownView(new Node("root"), { math }).show(source, false);
  return found;
}

const FORMULAS = [
  ["$x^2$ and \\(a_1*b*\\)", ["x^2", "a_1*b*"]],
  ["$$\na = b\n- c\n$$\nafter", ["!a = b\n- c"]],
  ["The sum:\n\\[\n1 + 2\n\\]", ["!1 + 2"]],
  ["so $$x$$ it is", ["!x"]],
  ["- $x$\n- $$y$$", ["x", "!y"]],
  ["$5 to $6, US$5,000 or CA$6,000, $HOME and $PATH, $a$b, `$x$`, \\$x\\$", []],
  ["$$ never closed\n\n$$", []],
  ["```tex\n$x$\n```", []],
];

for (const [source, expected] of FORMULAS) {
  test(`finds the formulas of ${JSON.stringify(source)}`, () => {
    assert.deepEqual(formulas(source), expected);
  });
}

test("code that is drawn in pieces goes on with what the piece before left open", () => {
  const opened = [];
  const code = (node, text, info, open) => {
    opened.push(open);
    return `${info} ${opened.length}`;
  };
  const view = new MarkdownView(new Node("root"), { code });
  const text = `\`\`\`py\n${"code\n".repeat(800)}\`\`\`\n\n\`\`\`js\nx\n\`\`\``;
  while (!view.show(text, false));
  const [first, ...others] = opened;
  assert.equal(first, null);
  assert.equal(others.pop(), null);
  assert.ok(others.length > 1 && others.every((open) => open?.startsWith("py")), opened.join());
});
