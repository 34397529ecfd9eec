
// What is typed into the search box: words that must all be there, "some words" in a row, name:value, name<number, and each with - before
// it for what must not be. A value is whole words, * stands for any letters; a number may be a range a..b and may end in %.
const query = (() => {
  const TOKEN = /(-)?(?:([^\s":<>=]+)(<=|>=|[:<>=]))?(?:"([^"]*)"?|([^\s"]+))/g;
  const ALIASES = { class: "name", photograph: "image", photo: "image", model: "network" };
  const plain = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "_");
  const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

  const parse = (text) => [...text.matchAll(TOKEN)]
    .map(([, minus, column, operator, quoted, word]) => ({ negated: Boolean(minus), column, operator, value: quoted ?? word }))
    .filter((t) => t.value !== "" && (t.column || !/[^:<>=][:<>=]+$/.test(t.value)) && t.value !== "-"); // still being typed

  // catalogue: columns [{name, numeric, at(i), words, code(i)}], text(i). Gives {test(i), problem}.
  const compile = (text, catalogue) => {
    const tests = [];
    for (const token of parse(text)) {
      const made = token.column === undefined ? words(token.value, catalogue) : field(token, catalogue);
      if (typeof made === "string") return { test: () => false, problem: made };
      tests.push(token.negated ? (i) => !made(i) : made);
    }
    return { test: (i) => tests.every((t) => t(i)), problem: "" };
  };

  const words = (value, catalogue) => {
    const wanted = value.toLowerCase();
    return (i) => catalogue.text(i).includes(wanted);
  };

  const field = ({ column, operator, value }, catalogue) => {
    const wanted = plain(ALIASES[column.toLowerCase()] ?? column);
    const found = catalogue.columns.find((c) => plain(c.name) === wanted) ?? catalogue.columns.find((c) => plain(c.name) === plain(column));
    if (!found) return `There is nothing named “${column}” to search by. There are: ${catalogue.columns.map((c) => c.name).join(", ")}.`;
    return found.numeric ? numbers(found, operator, value) : texts(found, operator, value);
  };

  const number = (text) => {
    const match = /^([-−]?[\d.]+(?:e[-+]?\d+)?)(%?)$/i.exec(text);
    const value = match ? Number(match[1].replace("−", "-")) : NaN;
    return match && match[2] ? value / 100 : value;
  };

  const numbers = (column, operator, value) => {
    const ends = value.split("..");
    const [low, high] = ends.length === 2 && (operator === ":" || operator === "=") ? [ends[0] ? number(ends[0]) : -Infinity, ends[1] ? number(ends[1]) : Infinity]
      : [number(value), number(value)];
    if (Number.isNaN(low) || Number.isNaN(high)) return `“${column.name}” is a number; “${value}” is none.`;
    const near = 5e-5 * Math.abs(low); // the page has numbers of five digits
    const tests = {
      "<": (v) => v < low, ">": (v) => v > low, "<=": (v) => v <= low, ">=": (v) => v >= low,
      ":": (v) => v >= low - near && v <= high + near,
    };
    tests["="] = tests[":"];
    return (i) => { const v = column.at(i); return v !== null && tests[operator](v); };
  };

  const texts = (column, operator, value) => {
    if (operator !== ":" && operator !== "=") return `“${column.name}” has words, not numbers: write ${column.name}:${value}.`;
    const wanted = value.toLowerCase();
    const all = column.words.map((w) => (w === null ? "" : w.toLowerCase()));
    const pattern = new RegExp(`(?<![\\p{L}\\p{N}_])${wanted.split("*").map(escaped).join("[^\\s]*")}(?![\\p{L}\\p{N}_])`, "u");
    const exact = all.includes(wanted);
    const fits = all.map((w) => (exact ? w === wanted : pattern.test(w)));
    return (i) => fits[column.code(i)];
  };

  // The query with name:value in it once, or not at all where the value is empty.
  const put = (text, name, value) => {
    const rest = parse(text).filter((t) => !(t.column && plain(t.column) === plain(name) && t.operator === ":" && !t.negated)).map(write);
    return [...rest, ...(value === "" ? [] : [write({ column: name, operator: ":", value })])].join(" ");
  };
  const write = ({ negated, column, operator, value }) => {
    const shown = /[\s":<>=]/.test(value) ? `"${value.replaceAll('"', "*")}"` : value;
    const name = column && (/[\s":<>=]/.test(column) ? plain(column) : column);
    return `${negated ? "-" : ""}${name ? name + operator : ""}${shown}`;
  };
  const chosen = (text, name) => parse(text).find((t) => t.column && plain(t.column) === plain(name) && t.operator === ":" && !t.negated)?.value ?? "";

  return { compile, put, chosen };
})();
