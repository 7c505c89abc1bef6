/**
 * Answers that are hard to format: each shape makes one of about `n` UTF-16 units.
 *
 * A shape that grows in length only ends with `tail`, which has to be seen on the page whatever
 * became of what stands before it. To try another shape, add a line.
 */

const fill = (unit) => (n) => unit.repeat(Math.ceil(n / unit.length)).slice(0, n);
/** Units that differ: `make(i)` for i = 0, 1, … until there are n characters. */
const grow = (make) => (n) => {
  const parts = [];
  for (let i = 0, length = 0; length < n; i += 1) {
    parts.push(make(i));
    length += parts[i].length;
  }
  return parts.join("").slice(0, n);
};
/** As much as fits of `first` and then the same length of `second`. */
const halves = (first, second) => (n) => fill(first)(n / 2 | 0) + fill(second)(n / 2 | 0);
/** A staircase: as many steps as fit in n, for what gets deeper by a line. */
const stairs = (make) => (n) => grow((i) => make(i))(n);

export const SHAPES = {
  // Blocks
  "quotes": fill(">"),
  "quotes apart": fill("> "),
  "quotes, one deeper a line": stairs((i) => `${">".repeat(i)} a\n`),
  "quotes, one less a line": (n) => {
    const depth = Math.floor(Math.sqrt(2 * n));
    return grow((i) => `${">".repeat(Math.max(0, depth - i))} a\n`)(n);
  },
  "deep quotes of many lines": fill(`${">".repeat(200)} a\n`),
  "lazy lines after a quote": (n) => `> a\n${fill("b\n")(n)}`,
  "lists in lists": stairs((i) => `${"  ".repeat(i)}- a\n`),
  "lists in one line": fill("- "),
  "numbers in one line": fill("1. "),
  "numbers": fill("1. a\n"),
  "numbers apart": fill("1. a\n\n"),
  "numbers that count": grow((i) => `${i}. a\n`),
  "long numbers": fill("123456789. a\n"),
  "kinds of marker by turns": fill("- a\n1. b\n"),
  "markers alone": fill("-\n"),
  "items and their paragraphs": fill("- a\n\n  b\n\n"),
  "an item and blank lines": (n) => `- a\n${fill("\n")(n)}`,
  "items and quotes": fill("- > "),
  "quotes and items by lines": fill("> - a\n> > b\n"),
  "items of one space less": fill("1. a\n  - b\n"),
  "a fence never closed": (n) => `\`\`\`\n${fill("line of code\n")(n)}`,
  "a fence of one line": (n) => `\`\`\`${fill("x")(n)}`,
  "fences": fill("```\na\n```\n"),
  "fences of growing length": grow((i) => `${"`".repeat(3 + i)}\na\n`),
  "tildes and backticks": fill("~~~\n```\n"),
  "a fence in each item": fill("- ```\n"),
  "indented code": fill("    a\n"),
  "blank lines in indented code": fill("    a\n\n\n"),
  "headings": fill("# a\n"),
  "a heading of marks": fill("# "),
  "marks without a space": fill("#"),
  "rules": fill("---\n"),
  "a long rule": fill("- - "),
  "a long rule that is none": (n) => `${fill("* ")(n)}a`,
  "underlines": fill("a\n-\n"),
  "a long paragraph": fill("word "),
  "short lines": fill("a\n"),
  "blank lines": fill("\n"),
  "spaces": fill(" "),
  "spaces at line ends": fill("a  \n"),
  "spaces before a word": (n) => `${fill(" ")(n)}a`,
  "one long word": fill("a"),
  "tabs": fill("\t"),
  "tabs and items": fill("-\ta\n\t-\tb\n"),
  "CRLF": fill("a\r\n- b\r\n"),
  "CR": fill("a\r"),
  "footnotes and references": grow((i) => `[a${i}]: https://a.example/${i}\n`),
  "references and uses": halves("[a]: https://a.example\n", "[a]"),
  "a reference never finished": fill("[a]:\n"),
  "titles never finished": fill("[a]: <b> 'c\n"),
  // Tables
  "a table": (n) => `|a|b|\n|-|-|\n${fill("|1|2|\n")(n)}`,
  "a wide table": (n) => `|${fill("a|")(n / 3)}\n|${fill("-|")(n / 3)}\n|${fill("b|")(n / 3)}`,
  "a wide table of short rows": (n) => `|${fill("a|")(n / 3)}\n|${fill("-|")(n / 3)}\n${fill("b|\n")(n / 3)}`,
  "bars": fill("|"),
  "bars and dashes": fill("|-"),
  "rules of tables": fill("|-|\n"),
  "heads of tables": fill("|a|\n|-|\n\n"),
  "escaped bars": (n) => `|a|\n|-|\n|${fill("\\|")(n)}|`,
  "cells of code": (n) => `|a|\n|-|\n${fill("|`a\n")(n)}`,
  // Emphasis
  "stars": fill("*"),
  "stars and a letter": fill("*a"),
  "stars, a letter and a space": fill("*a "),
  "closing stars": fill("a* "),
  "pairs of stars": fill("**a"),
  "strong words": fill("**a** "),
  "strong words without a space": fill("**a**"),
  "soft words": fill("*a* "),
  "deep emphasis": halves("*a ", " b*"),
  "deep strong": halves("**a ", " b**"),
  "deep emphasis of two kinds": (n) => fill("*_")(n / 2 | 0) + "a" + fill("_*")(n / 2 | 0),
  "opening and closing apart": halves("**a ", "b_ "),
  "stars of three": fill("***a "),
  "underscores": fill("_"),
  "snake case": fill("a_"),
  "dunders": fill("__a__ "),
  "stars and underscores": fill("*_a "),
  "tildes": fill("~~a"),
  "runs of growing length": grow((i) => `${"*".repeat(i)}a`),
  "runs of two lengths": fill("*a**"),
  // Code
  "backticks": fill("`"),
  "backticks of growing length": grow((i) => `e${"`".repeat(i)}`),
  "backticks of shrinking length": (n) => {
    const longest = Math.floor(Math.sqrt(2 * n));
    return grow((i) => `${"`".repeat(Math.max(1, longest - i))} `)(n);
  },
  "code": fill("`a` "),
  "code never closed": fill("``a` "),
  "stars and a backtick": fill("**x `"),
  "escaped backticks": fill("\\`"),
  "backslashes": fill("\\"),
  "escapes": fill("\\*\\_\\["),
  // Links
  "brackets": fill("["),
  "closing brackets": fill("]"),
  "links in links": halves("[", "](b)"),
  "opened links": fill("[a]("),
  "targets alone": fill("]("),
  "opened links with a title": fill('[a](b "'),
  "targets in angles": fill("[a](<b"),
  "targets with parentheses": (n) => `[a](${fill("(")(n)}`,
  "images": fill("![a](https://a.example/b)"),
  "images in images": fill("![["),
  "brackets of brackets": halves("[[", "]]"),
  "links": fill("[a](https://a.example/b) "),
  "scripts as links": fill("[a](javascript:alert(1)) "),
  "schemes": fill("[a](data:text/html,b) [c](vbscript:d) [e](file:///f) [g](//h) <javascript:i> "),
  "schemes in disguise": fill("[a](&#106;avascript:b) [c](java\tscript:d) [e](JAVASCRIPT&colon;f) "),
  "autolinks": fill("<https://a.example> "),
  "autolinks never closed": fill("<a:b"),
  "addresses": fill("https://a.example/b "),
  "addresses without a space": fill("https://a.example/"),
  "schemes alone": fill("http://"),
  "addresses that end in dots": (n) => `https://a.example/${fill(".")(n)}`,
  "addresses that end in stars": (n) => `https://a.example/${fill("*")(n)}`,
  "h": fill("h"),
  "colons": fill(":"),
  "mail": fill("a@b.example "),
  "hosts": fill("www.a.example "),
  "dots": fill("a."),
  // HTML and entities
  "tags": fill("<b onclick='x'>"),
  "scripts": fill("<script>alert(1)</script>\n"),
  "angles": fill("<"),
  "comments": fill("<!-- "),
  "declarations": fill("<!A "),
  "instructions": fill("<?"),
  "attributes never closed": (n) => `<a ${fill("b='c' ")(n)}`,
  "entities": fill("&amp;&#60;&nosuch;&#x0;&#xD800;&#99999999; "),
  "ampersands": fill("&"),
  "an entity that goes on": (n) => `&${fill("a")(n)}`,
  // Text that is not Latin, or not text
  "right to left": fill("שלום عالم "),
  "both directions": fill("a שלום **b** `عالم` "),
  "overrides of direction": fill("\u202ea\u2066b\u202c"),
  "nothing of width": fill("a\u200b\u200d\ufeff"),
  "combining marks": (n) => `a${fill("\u0301")(n)}`,
  "emoji": fill("👩‍👩‍👧‍👦"),
  "Chinese": fill("流式传输，**粗体**。"),
  "NUL": fill("\0a"),
  "lone surrogates": fill("\ud800*a*\udc00"),
  "separators": fill("a\u2028b\u2029c\u0085"),
  "no-break spaces": fill("*\u00a0a\u00a0*"),
};

/** What answers are made of, in any order. */
export const TOKENS = [
  "word", "two words", " ", " ", " ", "  ", "   ", "    ", "\t", "\n", "\n", "\n", "\n\n", "\r\n", "\r",
  "#", "# ", "###### ", "*", "**", "***", "_", "__", "~~", "`", "``", "```", "```py\n", "~~~\n", "- ",
  "+ ", "* ", "1. ", "12) ", "999999999. ", "> ", ">", ">>> ", "|", " | ", "---", "===", "|-|-|\n",
  ":-:", "[", "]", "[a](", "](", "![", "https://a.example/b_(c)", "http://", "<https://a.example>",
  "javascript:alert(1)", "[x](javascript:alert(1))", "[r]: /u 'x'\n", "[r]", "(", ")", "\\", "\\\\",
  "<", ">", "<b>", "</b>", "<script>", "<!--", "&", "&amp;", "&#0;", "&#x110000;", "é漢🙂", "שלום",
  "\u202e", "\u200d", "\u00a0", "\u2028", "\0", "\ud83d", "\ude00", "\ufeff", "a@b.example", "!", "\"",
  "'", ":", ".", "snake_case_name", "__init__", "$x^2$", "- [ ] ", "- [x] ",
];
