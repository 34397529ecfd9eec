
// The gallery: thousands of results, of which only those in view are in the document. What it shows is in the address behind the #:
// q the query, sort a column (- before it: downwards), view=table, show the result that is enlarged.
(() => {
  const element = (name) => document.getElementById(`gallery-${name}`);
  const data = JSON.parse(document.getElementById("catalogue").textContent);
  const { records } = data;
  const count = data.ids.length;
  const paired = Boolean(data.members);
  const PRINTED = 500;
  const FACETS = 5;
  const collator = new Intl.Collator("en", { numeric: true });

  // Columns: a value, a word or a number for each item.
  const columns = data.columns.map((c) => {
    const numeric = c.kind !== "text";
    const constant = "constant" in c;
    const raw = constant ? () => c.constant : numeric ? (i) => c.numbers[i] : (i) => c.values[c.codes[i]];
    const show = { percent: (v) => `${(100 * v).toFixed(1)}%`, decibel: (v) => `${v.toFixed(1)} dB`, number: (v) => String(Number(v.toPrecision(4))) }[c.kind] ?? String;
    const sign = c.name.endsWith(".change") ? (v) => (v > 0 ? "+" : "") : () => "";
    return {
      name: c.name, numeric, constant, at: raw, words: numeric ? [] : constant ? [c.constant] : c.values,
      code: constant ? () => 0 : (i) => c.codes?.[i],
      rank: !numeric && !constant ? ranks(c) : null,
      text: (i) => { const v = raw(i); return v === null ? "–" : sign(v) + show(v).replace(/-(?=\d)/g, numeric ? "−" : "-"); },
    };
  });
  const column = (name) => columns.find((c) => c.name === name);
  const told = columns.filter((c) => !c.constant);
  function ranks(c) {
    const order = c.values.map((_, k) => k);
    if (!c.ordered) order.sort((a, b) => collator.compare(c.values[a] ?? "", c.values[b] ?? ""));
    const rank = [];
    order.forEach((k, place) => { rank[k] = place; });
    return rank;
  }
  const coded = ({ values, codes }) => (i) => values[codes[i]];
  const [first, second] = [coded(data.first), coded(data.second)];
  const original = coded(records.originals);
  const size = coded(records.sizes);
  const parts = (i) => (paired ? data.members[i] : [i]);
  const title = (i) => [first(i), second(i)].filter(Boolean).join(" · ");

  let searched = null;
  const catalogue = {
    columns,
    text: (i) => {
      searched ??= Array.from({ length: count }, (_, k) => [title(k), ...told.filter((c) => !c.numeric).map((c) => c.text(k)), data.ids[k]].join(" ").toLowerCase());
      return searched[i];
    },
  };

  // The number under a picture, and for a pair that of each.
  const telling = ["error", "activation"].flatMap((name) => [column(name), column(`${name}.A`)]).find(Boolean) ?? told.find((c) => c.numeric);
  const short = (c, i) => (c && c.at(i) !== null ? (c.name.startsWith("error") ? c.text(i) : `${c.name.replace(/\.[AB]$/, "")} ${c.text(i)}`) : "");
  const number = (i, side) => short(paired && telling?.name.endsWith(".A") ? column(`${telling.name.slice(0, -1)}${"AB"[side]}`) : telling, i);

  // The state, and what follows from it.
  const state = { q: "", sort: "", view: "pictures", show: "" };
  let shown = [];
  let active = 0;
  const search = () => {
    const { test, problem } = query.compile(state.q, catalogue);
    shown = [];
    for (let i = 0; i < count; i++) if (test(i)) shown.push(i);
    const by = column(state.sort.replace(/^-/, ""));
    if (by) {
      const sign = state.sort.startsWith("-") ? -1 : 1;
      const value = by.numeric || by.constant ? by.at : (i) => (by.at(i) === null ? null : by.rank[by.code(i)]);
      shown.sort((a, b) => {
        const [m, n] = [value(a), value(b)];
        if (m === null || n === null) return (m === null) - (n === null) || a - b; // what has none stands last either way
        return sign * (m < n ? -1 : m > n ? 1 : 0) || a - b;
      });
    }
    active = 0;
    element("problem").textContent = problem;
    element("status").textContent = shown.length === count ? `${count.toLocaleString("en")} results` : `${shown.length.toLocaleString("en")} of ${count.toLocaleString("en")}`;
    element("none").hidden = shown.length > 0;
  };

  const same = (a, b) => ["q", "sort", "view", "show"].every((k) => a[k] === b[k]);
  const address = (s) => {
    const given = [["q", s.q], ["sort", s.sort], ["view", s.view === "table" ? "table" : ""], ["show", s.show]].filter(([, v]) => v);
    return `#${given.map(([k, v]) => `${k}=${encodeURIComponent(v)}`).join("&") || "results"}`;
  };
  const addressed = () => {
    const hash = location.hash.slice(1);
    if (!/^(q|sort|view|show)=/.test(hash)) return null;
    const given = new URLSearchParams(hash);
    const text = (name) => given.get(name) ?? "";
    return { q: text("q"), sort: column(text("sort").replace(/^-/, "")) ? text("sort") : "", view: text("view") === "table" ? "table" : "pictures", show: text("show") };
  };
  let later = 0;
  const remember = () => { // not at every letter: browsers refuse too many changes in a row
    clearTimeout(later);
    later = setTimeout(() => history.replaceState(null, "", address(state)), 250);
  };

  const apply = (changes) => {
    const before = { ...state };
    Object.assign(state, changes);
    if (before.q !== state.q || before.sort !== state.sort) search();
    if (document.activeElement !== element("query") || element("query").value.trim() !== state.q.trim()) element("query").value = state.q;
    const by = state.sort.replace(/^-/, "");
    element("sort").value = by;
    element("direction").disabled = !by;
    element("direction").textContent = state.sort.startsWith("-") ? "↓" : "↑";
    element("direction").setAttribute("aria-label", state.sort.startsWith("-") ? "Largest first" : "Smallest first");
    for (const select of document.querySelectorAll("[data-facet]")) {
      const value = query.chosen(state.q, select.dataset.facet).toLowerCase();
      select.value = [...select.options].find((o) => o.value.toLowerCase() === value)?.value ?? "";
    }
    for (const view of ["pictures", "table"]) element(view).setAttribute("aria-pressed", String(state.view === view));
    element("grid").hidden = state.view === "table";
    element("rows").hidden = state.view !== "table";
    if (!same(before, state)) remember();
    draw(true);
  };

  // Only what is in view, and two rows around it, is in the document; nodes are used again. One that has the focus stays.
  const grid = element("grid");
  const nodes = new Map();
  let spare = [];
  let shape = { across: 1, cell: 100, row: 100 };
  const CAPTION = 58;
  const GAP = 10;
  const measure = () => {
    const wide = paired ? 2.04 : 1;
    const width = grid.clientWidth || 300;
    const across = Math.max(1, Math.floor((width + GAP) / (100 * wide + GAP)));
    const cell = Math.min((width - GAP * (across - 1)) / across, across > 1 ? 150 * wide : 400);
    const side = paired ? (cell - 4) / 2 : cell;
    shape = { across, cell, side, row: side + CAPTION + GAP };
    grid.style.height = `${Math.ceil(shown.length / across) * shape.row}px`;
  };
  const draw = (anew) => {
    if (state.view === "table") return drawRows(anew);
    if (anew) { measure(); for (const [place, node] of nodes) release(place, node); }
    const top = -grid.getBoundingClientRect().top;
    const from = Math.max(Math.floor(top / shape.row) - 2, 0) * shape.across;
    const to = Math.min((Math.ceil((top + innerHeight) / shape.row) + 2) * shape.across, shown.length);
    const stop = Math.max(Math.min(active, shown.length - 1), 0); // in the order of tabs, so it is there wherever the page is scrolled to
    for (const [place, node] of nodes) if ((place < from || place >= to) && place !== stop && !node.contains(document.activeElement)) release(place, node);
    const added = document.createDocumentFragment();
    if (shown.length && !nodes.has(stop)) added.append(cell(stop));
    for (let place = from; place < to; place++) if (!nodes.has(place)) added.append(cell(place));
    grid.append(added);
    for (const [place, node] of nodes) node.firstChild.tabIndex = place === stop ? 0 : -1;
  };
  const release = (place, node) => { nodes.delete(place); node.remove(); spare.push(node); };

  const cell = (place) => {
    const node = spare.pop() ?? blank();
    nodes.set(place, node);
    const i = shown[place];
    node.style.transform = `translate(${(place % shape.across) * (shape.cell + GAP)}px, ${Math.floor(place / shape.across) * shape.row}px)`;
    node.style.width = `${shape.cell}px`;
    node.setAttribute("aria-setsize", shown.length);
    node.setAttribute("aria-posinset", place + 1);
    const button = node.firstChild;
    button.dataset.place = place;
    const [thumbs, one, two, three] = button.children;
    parts(i).forEach((record, side) => thumb(thumbs.children[side], record, shape.side));
    one.textContent = first(i);
    two.textContent = second(i) || " ";
    const numbers = parts(i).map((record, side) => (record < 0 ? "–" : number(i, side)));
    three.replaceChildren(...numbers.map((text) => Object.assign(document.createElement("span"), { textContent: text || " " })));
    button.setAttribute("aria-label", `Enlarge: ${title(i)}${numbers[0] ? `, ${numbers.join(" and ")}` : ""}`);
    button.title = title(i);
    return node;
  };
  const blank = () => {
    const make = (name, className, ...children) => { const made = document.createElement(name); made.className = className; made.append(...children); return made; };
    const thumbs = make("span", "thumbs", ...(paired ? [make("span", "thumb"), make("span", "thumb")] : [make("span", "thumb")]));
    const button = make("button", "cell", thumbs, make("span", "one"), make("span", "two"), make("span", "numbers"));
    button.type = "button";
    const node = make("div", "item", button);
    node.setAttribute("role", "listitem");
    return node;
  };
  // A picture out of a sheet: the box of its shape, with the sheet behind it, moved and scaled.
  const thumb = (box, record, side) => {
    const { thumbnail, gutter, side: across } = records;
    const slot = thumbnail + 2 * gutter;
    const scale = side / thumbnail;
    box.parentElement.style.height = `${side}px`;
    const [width, height] = record < 0 ? [0, 0] : size(record);
    const why = record < 0 ? "no partner" : records.missing[record];
    box.textContent = why === undefined ? "" : why;
    box.classList.toggle("lost", why !== undefined);
    const longer = Math.max(width, height) || 1;
    const [w, h] = why === undefined ? [width, height].map((x) => Math.max(Math.round((x * thumbnail) / longer), 1)) : [thumbnail, thumbnail];
    box.style.width = `${w * scale}px`;
    box.style.height = `${h * scale}px`;
    if (why !== undefined) { box.style.backgroundImage = ""; return; }
    const k = record % across ** 2;
    box.style.backgroundImage = `url("${records.base}${records.sheets[Math.floor(record / across ** 2)]}")`;
    box.style.backgroundSize = `${across * slot * scale}px`;
    box.style.backgroundPosition = `${-((k % across) * slot + gutter) * scale}px ${-(Math.floor(k / across) * slot + gutter) * scale}px`;
  };

  // By keyboard: one cell is in the order of tabs, arrows lead to the others.
  const focus = (place) => {
    active = Math.max(0, Math.min(place, shown.length - 1));
    if (state.view === "table") return focusRow(active);
    const bar = element("form").getBoundingClientRect().bottom;
    const top = grid.getBoundingClientRect().top + Math.floor(active / shape.across) * shape.row;
    if (top < bar) scrollBy({ top: top - bar - 4, behavior: "instant" });
    else if (top + shape.row > innerHeight) scrollBy({ top: top + shape.row - innerHeight + 4, behavior: "instant" });
    draw(false);
    nodes.get(active)?.firstChild.focus({ preventScroll: true });
  };
  grid.addEventListener("keydown", (event) => {
    const page = shape.across * Math.max(Math.floor(innerHeight / shape.row) - 1, 1);
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -shape.across, ArrowDown: shape.across, PageUp: -page, PageDown: page, Home: -count, End: count }[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const last = shown.length - 1;
    const to = active + step;
    focus(Math.abs(step) === shape.across && (to < 0 || to > last) ? active : to);
  });
  grid.addEventListener("focusin", (event) => { active = Number(event.target.dataset.place ?? active); });
  grid.addEventListener("click", (event) => {
    const button = event.target.closest("button.cell");
    if (button) enlarge(Number(button.dataset.place));
  });

  // The same as a table, in its own scrolling box, so that its heads stay in sight.
  const box = element("rows");
  const body = box.querySelector("tbody");
  const listed = told.filter((c) => !c.name.startsWith("energy."));
  const ROW = 30;
  const makeHead = () => {
    const heads = [null, ...listed].map((c) => {
      const th = document.createElement("th");
      th.scope = "col";
      if (!c) { th.textContent = "result"; return th; }
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: c.name });
      button.addEventListener("click", () => apply({ sort: state.sort === c.name ? `-${c.name}` : c.name }));
      th.append(button);
      return th;
    });
    box.querySelector("thead tr").replaceChildren(...heads);
  };
  let sorted = [];
  const drawRows = (anew) => {
    if (!body.parentElement.tHead.rows[0].cells.length) makeHead();
    if (anew) {
      [...box.querySelectorAll("thead th")].forEach((th, k) => { if (k) th.setAttribute("aria-sort", state.sort === listed[k - 1].name ? "ascending" : state.sort === `-${listed[k - 1].name}` ? "descending" : "none"); });
      if (sorted !== shown) { box.scrollTop = 0; sorted = shown; }
      body.parentElement.setAttribute("aria-rowcount", shown.length + 1);
    }
    const from = Math.max(Math.floor(box.scrollTop / ROW) - 10, 0);
    const to = Math.min(from + Math.ceil((box.clientHeight || 600) / ROW) + 20, shown.length);
    fillRows(from, to);
  };
  const fillRows = (from, to) => {
    const held = document.activeElement?.closest("#gallery-rows tbody") ? active : -1;
    const gap = (rows) => { const tr = document.createElement("tr"); tr.style.height = `${rows * ROW}px`; tr.setAttribute("aria-hidden", "true"); return tr; };
    const stop = active >= from && active < to ? active : from; // one of the rows that are there is in the order of tabs
    body.replaceChildren(gap(from), ...shown.slice(from, to).map((i, k) => line(i, from + k, stop)), gap(shown.length - to));
    if (held >= from && held < to) body.querySelector(`[data-place="${held}"]`)?.focus({ preventScroll: true });
  };
  const line = (i, place, stop) => {
    const tr = document.createElement("tr");
    tr.setAttribute("aria-rowindex", place + 2);
    const th = document.createElement("th");
    th.scope = "row";
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: title(i), title: title(i), tabIndex: place === stop ? 0 : -1 });
    button.dataset.place = place;
    th.append(button);
    tr.append(th, ...listed.map((c) => { const td = document.createElement("td"); td.textContent = c.text(i); if (c.numeric) td.className = "n"; return td; }));
    return tr;
  };
  const focusRow = (place) => {
    const top = place * ROW;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + 3 * ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + 3 * ROW - box.clientHeight;
    drawRows(false);
    for (const button of body.querySelectorAll("button")) button.tabIndex = Number(button.dataset.place) === place ? 0 : -1;
    body.querySelector(`[data-place="${place}"]`)?.focus({ preventScroll: true });
  };
  box.addEventListener("scroll", () => requestAnimationFrame(() => drawRows(false)), { passive: true });
  body.addEventListener("focusin", (event) => { active = Number(event.target.dataset.place ?? active); });
  body.addEventListener("click", (event) => { const button = event.target.closest("button"); if (button) enlarge(Number(button.dataset.place)); });
  body.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1, PageUp: -15, PageDown: 15, Home: -count, End: count }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    focus(active + step);
  });

  // The enlarged view, over what the search has found.
  let energies = null;
  const trace = (record) => {
    energies ??= JSON.parse(document.getElementById("energies").textContent);
    const line = record < 0 ? null : energies.lines[record];
    if (!line) return null;
    const [low, high, packed] = line;
    const steps = energies.steps.values[energies.steps.codes[record]];
    const terms = energies.terms.values[energies.terms.codes[record]];
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    const [a, b] = low > 0 ? [Math.log10(low), Math.log10(high)] : [low, high];
    const value = (byte) => { const v = a + (byte / 254) * (b - a); return byte === 255 ? null : low > 0 ? 10 ** v : v; };
    return { steps, lines: terms.map((t, k) => [t, Array.from(bytes.subarray(k * steps.length, (k + 1) * steps.length), value)]) };
  };
  const picture = (record, i, side) => (record === undefined ? null : {
    full: record < 0 ? "" : records.links[record], alt: title(i),
    caption: record < 0 ? `${data.runs[side]}: no partner` : [paired ? `${"AB"[side]}: ${data.runs[side]}` : "pre-image", paired ? number(i, side) : ""].filter(Boolean).join(" · "),
  });
  const item = (i) => {
    const [a, b] = parts(i);
    const source = original(a >= 0 ? a : b);
    return {
      title: title(i),
      original: source ? { full: source, alt: "the original photograph", caption: "original" } : null,
      picture: picture(a, i, 0),
      other: picture(b, i, 1),
      facts: [...columns.filter((c) => c.at(i) !== null).map((c) => [c.name, c.text(i)]), ["result", data.ids[i]]],
      traces: (paired ? [a, b] : [a]).map((record, side) => { const t = trace(record); return t && paired ? { ...t, title: data.runs[side] } : t; }),
      link: address({ q: "", sort: "", view: "", show: data.ids[i] }),
    };
  };
  const enlarge = (place) => {
    const seen = shown;
    viewer.open({
      length: seen.length,
      item: (k) => item(seen[k]),
      came: (k) => { active = k; state.show = data.ids[seen[k]]; remember(); },
      left: (k) => { state.show = ""; remember(); focus(k); },
    }, place);
  };
  const showAddressed = () => {
    const wanted = state.show;
    if (!wanted) return;
    const i = data.ids.indexOf(wanted);
    if (i < 0) { element("problem").textContent = `There is no result “${wanted}” on this page.`; state.show = ""; return; }
    if (!shown.includes(i)) apply({ q: "", sort: "" });
    enlarge(shown.indexOf(i));
  };

  // Controls.
  element("query").addEventListener("input", () => apply({ q: element("query").value }));
  element("form").addEventListener("submit", (event) => event.preventDefault());
  element("sort").append(...told.map((c) => new Option(c.name, c.name)));
  element("sort").addEventListener("change", () => apply({ sort: element("sort").value }));
  element("direction").addEventListener("click", () => apply({ sort: state.sort.startsWith("-") ? state.sort.slice(1) : `-${state.sort}` }));
  for (const view of ["pictures", "table"]) element(view).addEventListener("click", () => apply({ view }));
  element("clear").addEventListener("click", () => { apply({ q: "" }); element("query").focus(); });
  for (const c of told) {
    if (element("facets").children.length >= FACETS) break;
    const values = c.numeric ? [...new Set(Array.from({ length: count }, (_, i) => c.at(i)).filter((v) => v !== null))] : c.words.filter((w) => w !== null);
    if (values.length < 2 || values.length > 60 || /^(error|activation|psnr|ssim|seconds|energy|evaluations|ok)/.test(c.name)) continue;
    const ordered = c.numeric ? values.sort((a, b) => a - b) : values.map((w, k) => [c.rank[c.words.indexOf(w)], w]).sort((a, b) => a[0] - b[0]).map(([, w]) => w);
    const select = document.createElement("select");
    select.dataset.facet = c.name;
    select.setAttribute("aria-label", c.name);
    select.append(new Option(`${c.name}: all`, ""), ...ordered.map((v) => new Option(c.numeric ? `${c.name}: ${v}` : v, v)));
    select.addEventListener("change", () => apply({ q: query.put(state.q, c.name, select.value) }));
    element("facets").append(select);
  }
  element("columns").textContent = columns.map((c) => c.name).join(", ");

  let asked = false;
  const again = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; if (state.view !== "table") draw(false); });
  };
  addEventListener("scroll", again, { passive: true });
  new ResizeObserver(() => { if (!printing && grid.clientWidth !== width) { width = grid.clientWidth; draw(true); } }).observe(grid);
  let width = 0;

  // On paper: the first of what is shown, all in the document for as long as it takes.
  let printing = false;
  addEventListener("beforeprint", () => {
    printing = true;
    const most = Math.min(PRINTED, shown.length);
    element("printed").textContent = most < shown.length ? `The first ${most} of ${shown.length.toLocaleString("en")} are printed. Search for the others to print them.` : "";
    if (state.view === "table") return fillRows(0, most);
    for (const [place, node] of nodes) release(place, node);
    shape = { ...shape, side: paired ? 78 : 84, cell: paired ? 160 : 84 };
    for (let place = 0; place < most; place++) grid.append(cell(place));
  });
  addEventListener("afterprint", () => { printing = false; draw(true); });

  // The search at the head of the page leads here.
  const jump = document.getElementById("jump");
  jump?.addEventListener("input", () => {
    element("query").value = jump.value;
    apply({ q: jump.value });
    arrive();
    element("query").focus({ preventScroll: true });
    element("query").setSelectionRange(jump.value.length, jump.value.length);
    jump.value = "";
  });
  const arrive = () => document.getElementById("results").scrollIntoView({ behavior: "instant" });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || viewer.shown || /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
    event.preventDefault();
    arrive();
    element("query").focus({ preventScroll: true });
  });
  addEventListener("hashchange", () => {
    const given = addressed();
    if (!given || same(given, state)) return;
    if (viewer.shown) viewer.close();
    apply(given);
    if (!given.show) arrive();
    showAddressed();
  });

  search();
  apply(addressed() ?? {});
  if (addressed()) { arrive(); requestAnimationFrame(() => { arrive(); showAddressed(); }); }
})();
