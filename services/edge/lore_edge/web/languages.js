/** The languages for the highlighter: comments, strings and words. Any other language stays plain. */

const words = (text) => new Set(text.split(" "));
const C_COMMENTS = { line: ["//"], block: [["/*", "*/"]] };
const HASH = { line: ["#"] };
const QUOTES = ['"', "'"];

const C = {
  ...C_COMMENTS,
  quotes: QUOTES,
  keywords: words("auto bool break case char const constexpr continue default do double else enum extern false float for goto if inline int long namespace new nullptr operator private protected public register return short signed sizeof static struct switch template this throw true try catch typedef typename union unsigned using virtual void volatile while class delete override NULL"),
};
const PYTHON = {
  ...HASH,
  block: [['"""', '"""', "string"], ["'''", "'''", "string"]],
  quotes: QUOTES,
  keywords: words("and as assert async await break case class continue def del elif else except False finally for from global if import in is lambda match None nonlocal not or pass raise return self True try while with yield"),
};
const JAVASCRIPT = {
  ...C_COMMENTS,
  block: [["/*", "*/"], ["`", "`", "string"]],
  quotes: QUOTES,
  keywords: words("abstract any as async await boolean break case catch class const continue debugger declare default delete do else enum export extends false finally for from function get if implements import in instanceof interface let new null number of private protected public readonly return set static string super switch this throw true try type typeof undefined unknown var void while yield"),
};
const JAVA = {
  ...C_COMMENTS,
  quotes: QUOTES,
  keywords: words("abstract as assert base bool boolean break byte case catch char class const continue data decimal default do double else enum extends false final finally float for foreach fun get if implements import in instanceof int interface internal is lazy let long namespace new null object open override package private protected public readonly record return sealed set short static string struct super suspend switch synchronized this throw throws true try using val var void volatile when where while yield"),
};
const GO = {
  ...C_COMMENTS,
  block: [["/*", "*/"], ["`", "`", "string"]],
  quotes: QUOTES,
  keywords: words("break bool byte case chan const continue default defer else error fallthrough false float64 for func go goto if import int int64 interface iota map nil package range return rune select string struct switch true type uint var"),
};
const RUST = {
  ...C_COMMENTS,
  quotes: ['"'],
  keywords: words("as async await bool break char const continue crate dyn else enum extern f32 f64 false fn for guard i32 i64 if impl in let loop match mod move mut None Ok Err Option Result Some pub ref return self Self static str String struct super throws trait true type u8 u32 u64 unsafe use usize var where while Vec"),
};
const SWIFT = { ...RUST, block: [["/*", "*/"], ['"""', '"""', "string"]], keywords: words("actor as async await break case catch class continue default defer do else enum extension false fileprivate final for func guard if import in init inout is lazy let mutating nil private protocol public return self Self static struct super switch throw throws true try typealias var weak where while") };
const SHELL = {
  ...HASH,
  quotes: QUOTES,
  keywords: words("alias break case cd continue do done echo elif else esac eval exec exit export fi for function if in local read return set shift source test then trap unset until while sudo"),
};
const RUBY = {
  ...HASH,
  quotes: QUOTES,
  keywords: words("alias and begin break case class def do else elsif end ensure false for if in module next nil not or private puts raise redo require rescue retry return self super then true undef unless until when while yield"),
};
const SQL = {
  line: ["--"],
  block: [["/*", "*/"]],
  quotes: QUOTES,
  isCaseless: true,
  keywords: words("add all alter and as asc begin between by case commit constraint create cross default delete desc distinct drop else end exists foreign from full group having if in index inner insert int integer into is join key left like limit not null offset on or order outer over partition primary references returning right rollback select set table text then transaction union unique update using values varchar view when where with"),
};
const DATA = { quotes: ['"'], keywords: words("true false null") };
const CONFIG = { ...HASH, quotes: QUOTES, keywords: words("true false null yes no on off") };
const MARKUP = { block: [["<!--", "-->"]], quotes: QUOTES, isMarkup: true, keywords: new Set() };
const CSS = { block: [["/*", "*/"]], quotes: QUOTES, keywords: words("important media supports import from to auto none inherit initial unset") };
const LUA = {
  line: ["--"],
  quotes: QUOTES,
  keywords: words("and break case class data deriving do else elseif end false for function goto if import in instance let local module newtype nil not of or repeat return then true type until where while"),
};
const PHP = { ...JAVASCRIPT, line: ["//", "#"], keywords: words("abstract and array as break case catch class const continue declare default do echo else elseif empty extends false final finally fn for foreach function global if implements include instanceof interface isset list match namespace new null or print private protected public readonly require return static string switch this throw trait true try use var void while yield int float bool") };

const NAMES = [
  [C, "c h cpp c++ cc cxx hpp objc arduino glsl cuda"],
  [PYTHON, "python py python3 pycon ipython"],
  [JAVASCRIPT, "javascript js jsx mjs cjs typescript ts tsx node"],
  [JAVA, "java kotlin kt scala groovy c# cs csharp dart"],
  [GO, "go golang"],
  [RUST, "rust rs zig"],
  [SWIFT, "swift"],
  [SHELL, "bash sh shell zsh console dockerfile docker makefile make powershell"],
  [RUBY, "ruby rb perl elixir r julia"],
  [SQL, "sql mysql postgresql postgres sqlite plsql"],
  [DATA, "json jsonc json5"],
  [CONFIG, "yaml yml toml ini conf properties env nginx hcl terraform"],
  [MARKUP, "html xml svg vue xhtml"],
  [CSS, "css scss less sass"],
  [LUA, "lua haskell hs"],
  [PHP, "php"],
];

const BY_NAME = new Map(NAMES.flatMap(([language, names]) => names.split(" ").map((name) => [name, language])));

/** @param {string} info the info string of a fence */
export const languageOf = (info) => BY_NAME.get(/^[^\s{,:]*/.exec(info.trim().toLowerCase())[0]);
