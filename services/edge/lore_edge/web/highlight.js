/**
 * Splits code into pieces with a class each: comments, strings, numbers, keywords, function names.
 *
 * It takes one pass from left to right, so twice the code costs twice the time. A view draws long code
 * in pieces: what is open at the end of a piece, such as a comment over several lines, continues in
 * the next.
 */

import { languageOf } from "./languages.js";

const WORD = /[\p{L}_$@][\p{L}\p{N}_$]*/uy;
const NUMBER = /\d[\w.]*/y;
const TAG = /<\/?[A-Za-z][\w:-]*|\/?>/y;

/**
 * @param {string} code
 * @param {string} info the info string of the fence
 * @param {string|null} open what the piece before left open: the text that closes it
 * @returns {{pieces: [string, string][], open: string|null}|null} class and text of each piece, ''
 *   for no class; null for an unknown language
 */
export function highlight(code, info, open = null) {
  const language = languageOf(info);
  return language ? new Lexer(code, language).run(open) : null;
}

class Lexer {
  #code;
  #language;
  #at = 0;
  /** The start of the text that has no class yet. */
  #plainFrom = 0;
  #pieces = [];

  constructor(code, language) {
    this.#code = code;
    this.#language = language;
  }

  run(open) {
    let left = open ? this.#upTo(...open) : null;
    while (!left && this.#at < this.#code.length) left = this.#step();
    this.#flush(this.#code.length);
    return { pieces: this.#pieces, open: left };
  }

  /** Takes the next piece. Returns what is left open, if anything. */
  #step() {
    const { line = [], block = [], quotes = [] } = this.#language;
    for (const [opening, closing, kind = "comment"] of block) {
      if (this.#isAt(opening)) return this.#upTo(closing, kind, opening.length);
    }
    if (line.some((mark) => this.#isAt(mark) && this.#startsComment(mark))) {
      this.#take("comment", this.#lineEnd());
    } else if (quotes.includes(this.#code[this.#at])) {
      this.#take("string", this.#stringEnd(this.#code[this.#at]));
    } else {
      this.#word();
    }
    return null;
  }

  #isAt(text) {
    return this.#code.startsWith(text, this.#at);
  }

  /** Whether a comment starts here. In a shell, `$#` and `a#b` are no comments. */
  #startsComment(mark) {
    return mark !== "#" || this.#at === 0 || /[\s;(){}[\],]/.test(this.#code[this.#at - 1]);
  }

  #upTo(closing, kind, skipped = 0) {
    const end = this.#code.indexOf(closing, this.#at + skipped);
    this.#take(kind, end === -1 ? this.#code.length : end + closing.length);
    return end === -1 ? [closing, kind] : null;
  }

  #lineEnd() {
    const end = this.#code.indexOf("\n", this.#at);
    return end === -1 ? this.#code.length : end;
  }

  /** The end of a string: its quote, or the end of its line. */
  #stringEnd(quote) {
    let at = this.#at + 1;
    for (; at < this.#code.length && this.#code[at] !== "\n"; at += 1) {
      if (this.#code[at] === "\\") at += 1;
      else if (this.#code[at] === quote) return at + 1;
    }
    return Math.min(at, this.#code.length);
  }

  #word() {
    const number = this.#match(NUMBER);
    const tag = this.#language.isMarkup && this.#match(TAG);
    const word = number || tag || this.#match(WORD);
    if (!word) {
      this.#at += 1;
      return;
    }
    const end = this.#at + word.length;
    if (number) this.#take("number", end);
    else if (tag || this.#isKeyword(word)) this.#take("keyword", end);
    else if (this.#code[end] === "(") this.#take("function", end);
    else this.#at = end;
  }

  #match(pattern) {
    pattern.lastIndex = this.#at;
    return pattern.exec(this.#code)?.[0];
  }

  #isKeyword(word) {
    return this.#language.keywords.has(this.#language.isCaseless ? word.toLowerCase() : word);
  }

  #take(kind, end) {
    this.#flush(this.#at);
    this.#pieces.push([kind, this.#code.slice(this.#at, end)]);
    this.#at = this.#plainFrom = end;
  }

  #flush(end) {
    if (end > this.#plainFrom) this.#pieces.push(["", this.#code.slice(this.#plainFrom, end)]);
    this.#plainFrom = end;
  }
}
