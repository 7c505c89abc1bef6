/** As much of the DOM as the page's formatting needs, for tests without a browser. */

export class Text {
  parent = null;
  constructor(text) {
    this.text = text;
  }
  get textContent() {
    return this.text;
  }
  remove() {
    this.parent?.childNodes.splice(this.parent.childNodes.lastIndexOf(this), 1);
    this.parent = null;
  }
  toString() {
    return this.text;
  }
}

export class Node extends Text {
  childNodes = [];
  dataset = {};
  style = {};
  classList = { add() {}, remove() {} };
  constructor(name) {
    super("");
    this.name = name;
    this.tagName = name.toUpperCase();
  }
  setAttribute(name, value) {
    this[name] = value;
  }
  append(...nodes) {
    for (const given of nodes) {
      const node = typeof given === "string" ? new Text(given) : given;
      node.remove();
      node.parent = this;
      this.childNodes.push(node);
    }
  }
  get lastChild() {
    return this.childNodes.at(-1);
  }
  get textContent() {
    return this.childNodes.map(({ textContent }) => textContent).join("");
  }
  get outerHTML() {
    return String(this);
  }
  toString() {
    const more = [this.href, this.start, this.dataset.language, this.style.textAlign]
      .filter((one) => one !== undefined && one !== "")
      .map((one) => ` ${one}`);
    return `${this.name}${more.join("")}[${this.childNodes.join("")}]`;
  }
}

/** Stands in for `document` where there is none. */
export function useDom() {
  globalThis.document ??= {
    createElement: (name) => new Node(name),
    createTextNode: (text) => new Text(text),
  };
}
