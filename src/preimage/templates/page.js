"use strict";

// Colours: as the system, light, dark. A page from disk may have no storage: then the choice lasts while it is open.
(() => {
  const modes = ["auto", "light", "dark"];
  const words = { auto: "as the system", light: "light", dark: "dark" };
  const button = document.getElementById("theme");
  let mode = "auto";
  try { mode = localStorage.getItem("preimage-theme") || "auto"; } catch { /* no storage */ }
  const apply = () => {
    if (!modes.includes(mode)) mode = "auto";
    if (mode === "auto") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.dataset.theme = mode;
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[mode];
    button.title = `Colours: ${words[mode]}`;
    button.setAttribute("aria-label", button.title);
  };
  button.addEventListener("click", () => {
    mode = modes[(modes.indexOf(mode) + 1) % modes.length];
    try { localStorage.setItem("preimage-theme", mode); } catch { /* no storage */ }
    apply();
  });
  apply();
})();

// The table of contents shows where one is.
(() => {
  const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
  const parts = [...document.querySelectorAll(".part")];
  const mark = () => {
    const edge = innerHeight * 0.3;
    let here = parts.filter((p) => p.getBoundingClientRect().top <= edge).at(-1) ?? parts[0];
    if (scrollY + innerHeight >= document.documentElement.scrollHeight - 2) here = parts.at(-1);
    for (const [id, link] of links) {
      if (here && id === here.id) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
  };
  addEventListener("scroll", mark, { passive: true });
  addEventListener("resize", mark);
  mark();
})();

// What scrolls is a stop of the Tab key, so that arrows can move it; what is shown whole is none.
(() => {
  const look = (e) => {
    const scrolls = e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight;
    const own = { tabindex: "0", ...(e.matches(".plot") ? { role: "group", "aria-label": "Chart, scroll sideways" } : {}) };
    for (const [name, value] of Object.entries(own)) {
      if (scrolls) e.setAttribute(name, value);
      else e.removeAttribute(name);
    }
  };
  const watch = new ResizeObserver((seen) => { for (const { target } of seen) look(target); });
  for (const e of document.querySelectorAll(".plot, main .scroll[tabindex='0']")) watch.observe(e);
})();

// On paper there is nothing to unfold.
(() => {
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open])")];
    for (const part of closed) part.open = true;
  });
  addEventListener("afterprint", () => { for (const part of closed) part.open = false; });
})();

// Sortable tables, and a filter over the words of a row.
for (const table of document.querySelectorAll("table.sortable[id]")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].querySelectorAll("th")];
  const compare = (column, sign) => (a, b) => {
    const [p, q] = [a.cells[column], b.cells[column]];
    const [m, n] = [p.dataset.sort, q.dataset.sort];
    if (m !== undefined && n !== undefined) return sign * (Number(m) - Number(n));
    if (m !== undefined || n !== undefined) return m === undefined ? 1 : -1; // what has no number stands last either way
    return sign * p.textContent.localeCompare(q.textContent, undefined, { numeric: true });
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of heads) other.setAttribute("aria-sort", other === head ? order : "none");
    body.append(...[...original].sort(compare(column, order === "ascending" ? 1 : -1)));
  }));
  const filter = document.querySelector(`[data-filter="${CSS.escape(table.id)}"]`);
  const count = document.getElementById(`${table.id}-count`);
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of original) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((w) => text.includes(w));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = shown === original.length ? `${shown} rows` : `${shown} of ${original.length} rows`;
  });
}

// The enlarged view: a modal dialog, which keeps the focus inside and gives it back. It shows a row of pictures: their number, item(k) with
// the title, the figures (pictures by the side of each other), the facts and traces of each, and what to do as one comes and at the end.
const viewer = (() => {
  const dialog = document.getElementById("viewer");
  const element = (name) => document.getElementById(`viewer-${name}`);
  let row = { length: 0 };
  let at = 0;

  const show = (index) => {
    at = (index + row.length) % row.length;
    const item = row.item(at);
    element("title").textContent = item.title;
    element("place").textContent = `${(at + 1).toLocaleString("en")} of ${row.length.toLocaleString("en")}`;
    for (const name of ["original", "picture", "other"]) fill(element(name), item[name]);
    element("file").hidden = !item.picture?.full;
    if (item.picture?.full) element("file").href = item.picture.full;
    element("link").hidden = !item.link;
    if (item.link) element("link").href = item.link;
    element("facts").replaceChildren(...item.facts.flatMap(([name, value]) => [text("dt", name), text("dd", value)]));
    element("trace").replaceChildren(...item.traces.flatMap((t) => (t && t.steps ? drawTrace(t) : [])));
    row.came?.(at);
  };

  const fill = (figure, picture) => {
    figure.hidden = !picture;
    if (!picture) return;
    const [image, caption] = [figure.querySelector("img"), figure.querySelector("figcaption")];
    image.alt = picture.alt;
    caption.textContent = picture.caption;
    image.hidden = !(picture.full || picture.src);
    image.onerror = () => {
      image.onerror = null;
      if (picture.src) image.src = picture.src;
      else { image.hidden = true; caption.textContent = "The file of this picture is not where it was when the page was made."; }
    };
    if (!image.hidden) image.src = picture.full || picture.src;
  };

  element("previous").addEventListener("click", () => show(at - 1));
  element("next").addEventListener("click", () => show(at + 1));
  element("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => row.left(at));
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) { event.preventDefault(); show(at + step); }
    if (event.key === "Home") { event.preventDefault(); show(0); }
    if (event.key === "End") { event.preventDefault(); show(row.length - 1); }
  });

  // The pictures that stand on the page itself.
  const data = document.getElementById("details");
  const records = data ? JSON.parse(data.textContent).records : [];
  const buttons = [...document.querySelectorAll("button.picture")];
  const printed = {
    length: buttons.length,
    item: (k) => {
      const image = buttons[k].querySelector("img");
      const record = records[Number(buttons[k].dataset.index ?? -1)];
      const original = record && record.original ? document.getElementById(record.original) : null;
      return {
        title: record ? record.title : image.alt,
        picture: { src: image.src, full: buttons[k].dataset.full, alt: image.alt, caption: record ? "pre-image" : "" },
        original: original && { src: original.src, full: original.parentElement.dataset.full, alt: original.alt, caption: "original" },
        facts: record ? record.facts : [],
        traces: record ? [record.trace] : [],
      };
    },
    left: (k) => buttons[k].focus(),
  };
  const open = (pictures, index) => {
    row = pictures;
    show(index);
    if (!dialog.open) dialog.showModal();
    element("title").focus();
  };
  buttons.forEach((button, index) => button.addEventListener("click", () => open(printed, index)));
  return { open, close: () => dialog.close(), get shown() { return dialog.open; } };

  function text(name, value) {
    const made = document.createElement(name);
    made.textContent = value;
    return made;
  }

  function round(value) {
    const far = value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5);
    return far ? value.toExponential(0) : String(Number(value.toPrecision(2)));
  }

  // Energy and its terms by iteration, logarithmic where all of it is above 0.
  function drawTrace(trace) {
    const [width, height, left, bottom] = [380, 170, 46, 22];
    const values = trace.lines.flatMap(([, line]) => line).filter((v) => v !== null);
    if (!values.length) return [];
    const log = Math.min(...values) > 0;
    const scale = log ? Math.log10 : (v) => v;
    const [low, high] = [scale(Math.min(...values)), scale(Math.max(...values))];
    const last = trace.steps.at(-1);
    const x = (step) => left + ((step - 1) / Math.max(last - 1, 1)) * (width - left - 8);
    const y = (value) => height - bottom - ((scale(value) - low) / (high - low || 1)) * (height - bottom - 10);
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "energy by iteration" });
    for (const value of [Math.min(...values), Math.max(...values)]) {
      svg.append(make("line", { x1: left, x2: width - 8, y1: y(value), y2: y(value) }));
      svg.append(make("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, round(value)));
    }
    for (const step of [1, last]) svg.append(make("text", { x: x(step), y: height - 6, "text-anchor": "middle" }, String(step)));
    if (trace.title) svg.setAttribute("aria-label", `energy by iteration: ${trace.title}`);
    const legend = document.createElement("div");
    legend.className = "legend";
    trace.lines.forEach(([name, line], k) => {
      let path = "";
      line.forEach((value, i) => {
        if (value !== null) path += `${path && line[i - 1] !== null ? "L" : "M"}${x(trace.steps[i]).toFixed(1)} ${y(value).toFixed(1)}`;
      });
      const dash = ["", "6 3", "2 2.5", "8 3 2 3"][k % 4];
      svg.append(make("path", { class: `line s${k % 6}`, d: path, "stroke-dasharray": dash }));
      const entry = document.createElement("span");
      const key = make("svg", { width: 30, height: 12 });
      key.append(make("path", { class: `line s${k % 6}`, d: "M1 6L29 6", "stroke-dasharray": dash }));
      entry.append(key, name);
      legend.append(entry);
    });
    const figure = document.createElement("figure");
    figure.className = "chart mini";
    if (trace.title) figure.append(Object.assign(text("div", trace.title), { className: "chart-title" }));
    const plot = document.createElement("div");
    plot.className = "plot";
    plot.append(svg);
    figure.append(plot, legend);
    return [figure];
  }

  function make(name, attributes, content) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) if (value !== "") made.setAttribute(key, value);
    if (content !== undefined) made.textContent = content;
    return made;
  }
})();
