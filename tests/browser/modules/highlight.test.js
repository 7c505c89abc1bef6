/** Code as pieces with a class each. */

import assert from "node:assert/strict";
import { test } from "node:test";

const { highlight } = await import("../../../services/edge/lore_edge/web/highlight.js");
const { counter } = await import("./cost.js");

/** The pieces that have a class, as `class:text`. */
const read = (code, info, open) =>
  highlight(code, info, open).pieces.filter(([kind]) => kind).map((piece) => piece.join(":"));

const CASES = [
  ["def f(x): # hi", "python", "keyword:def function:f comment:# hi"],
  ['x = "a\\"b" + 3.5', "py", 'string:"a\\"b" number:3.5'],
  ["'open\nif", "js", "string:'open keyword:if"],
  ["/* a\nb */ let x2 = `c\n`;", "ts", "comment:/* a\nb */ keyword:let string:`c\n`"],
  ["echo $# a#b # c", "sh", "keyword:echo comment:# c"],
  ["Select 1 -- x", "SQL", "keyword:Select number:1 comment:-- x"],
  ['<a href="x">t</a>', "html", 'keyword:<a string:"x" keyword:> keyword:</a keyword:>'],
  ['{"a": true}', "json {1}", 'string:"a" keyword:true'],
];

for (const [code, info, expected] of CASES) {
  test(`colours ${JSON.stringify(code)}`, () => {
    assert.equal(read(code, info).join(" "), expected);
  });
}

test("a language that is not known is left alone", () => {
  assert.equal(highlight("a", ""), null);
  assert.equal(highlight("a", "brainfuck"), null);
  assert.equal(highlight("a", "constructor"), null);
});

test("what a piece leaves open goes on in the next one", () => {
  const { open } = highlight('x = """doc', "py");
  assert.deepEqual(read('more""" if', "py", open), ['string:more"""', "keyword:if"]);
});

const UNITS = ["/", '"', "'''", "`", "/*", "a", "1", "\\", "<", "# ", "-", "é(", "\n"];

test("no character is lost, and twice the code costs twice the steps", async () => {
  const steps = await counter();
  for (const unit of UNITS) {
    for (const info of ["py", "js", "sh", "html", "sql"]) {
      const { pieces } = highlight(unit.repeat(500), info);
      assert.equal(pieces.map(([, text]) => text).join(""), unit.repeat(500), `${unit} in ${info}`);
      const cost = (n) => steps(() => highlight(unit.repeat(n), info));
      let [one, two] = [0, Infinity];
      for (let tries = 0; tries < 3 && two >= 2.5 * one; tries += 1) [one, two] = [await cost(500), await cost(1000)];
      assert.ok(two < 2.5 * one + 50, `${unit} in ${info}: ${one} steps, then ${two}`);
    }
  }
});
