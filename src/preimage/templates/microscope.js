
// The microscope. The address says what is shown: #LAYER, #LAYER/UNIT, #class/NAME; all else is made from the data when it is asked for.
(() => {
  const room = document.getElementById("units");
  if (!room) return;
  const data = JSON.parse(document.getElementById("unit-data").textContent);
  const { layers, images } = data;
  const query = document.getElementById("unit-query");
  const count = document.getElementById("unit-count");
  const most = 240; // units that a list shows at once

  const make = (name, props = {}, ...children) => {
    const made = Object.assign(document.createElement(name), props);
    made.append(...children);
    return made;
  };
  const link = (l, u) => `#${encodeURIComponent(layers[l].name)}${u === undefined ? "" : `/${u}`}`;
  const title = (l, u) => `${layers[l].name} ${u}${layers[l].units[u].n ? ` · ${layers[l].units[u].n}` : ""}`;
  const number = (v) => (v === null ? "–" : String(v));
  const file = (path) => path.replace(/.*[\\/]/, "");

  const tile = (l, u, k, more = "", top = data.top) => {
    const made = make("span", { className: "unit-tile" });
    const [rows, row] = [Math.min(data.rows, layers[l].units.length - Math.floor(u / data.rows) * data.rows), u % data.rows];
    made.style.backgroundImage = `url("${data.folder}/${l}-${Math.floor(u / data.rows)}${more}.webp")`;
    made.style.backgroundSize = `${top * 100}% ${rows * 100}%`;
    made.style.backgroundPosition = `${top > 1 ? (k / (top - 1)) * 100 : 0}% ${rows > 1 ? (row / (rows - 1)) * 100 : 0}%`;
    return made;
  };
  const list = (pairs) => {
    const grid = make("ul", { className: "unit-grid" });
    for (const [l, u] of pairs.slice(0, most)) {
      const shots = layers[l].units[u].s;
      const picture = shots ? make("img", { src: shots[0][0], alt: "", loading: "lazy", decoding: "async" }) : tile(l, u, 0);
      grid.append(make("li", {}, make("a", { href: link(l, u) }, picture, title(l, u))));
    }
    const rest = pairs.length - most;
    return rest > 0 ? [grid, make("p", { className: "small", textContent: `${rest} more: search for one, as ${layers[pairs[0][0]].name} 300.` })] : [grid];
  };
  const histogram = (unit) => {
    const heights = [...atob(unit.h)].map((c) => c.charCodeAt(0));
    const space = "http://www.w3.org/2000/svg";
    const drawn = document.createElementNS(space, "svg");
    drawn.setAttribute("viewBox", `0 0 ${heights.length * 10} 100`);
    drawn.setAttribute("preserveAspectRatio", "none");
    drawn.setAttribute("class", "unit-histogram");
    drawn.setAttribute("role", "img");
    drawn.setAttribute("aria-label", `Histogram of all answers from ${unit.m[1]} to ${unit.m[0]}, counts on a logarithmic scale`);
    heights.forEach((h, k) => {
      const bar = document.createElementNS(space, "rect");
      for (const [name, value] of Object.entries({ x: k * 10 + 1, y: 100 - (h / 255) * 98, width: 8, height: (h / 255) * 98 })) bar.setAttribute(name, value);
      drawn.append(bar);
    });
    return drawn;
  };
  const unitPage = (l, u) => {
    const unit = layers[l].units[u];
    const last = layers[l].units.length - 1;
    const head = make("div", { className: "unit-path" }, make("h2", { tabIndex: -1, id: "unit-title", textContent: title(l, u) }),
      make("span", { className: "small" }, make("a", { href: link(l, Math.max(u - 1, 0)), textContent: "← previous" }), " · ",
        make("a", { href: link(l), textContent: layers[l].name }), " · ", make("a", { href: link(l, Math.min(u + 1, last)), textContent: "next →" })));
    const parts = [head];
    if (unit.s) {
      const [, , , alike, path, end] = unit.s[0];
      const told = ([, reached, share]) => [`activation ${reached}`, share !== null && `above ${share} % of the natural ones`,
        unit.m[0] > 0 && `${(reached / unit.m[0]).toPrecision(2)} times the largest`].filter(Boolean).join(", ");
      const said = [alike !== null && `The layer answers to the images with a rank correlation of ${alike.toPrecision(2)}.`,
        path !== null && `The network takes them the way of natural images to ${path.toPrecision(2)}${end === null ? "" : `, and to ${end.toPrecision(2)} at ${layers[l].name} itself`} (1: as these, 0: as those of other units).`].filter(Boolean);
      parts.push(make("h3", { textContent: "Made for this unit" }), make("div", { className: "unit-shots" }, ...unit.s.map((shot, k) =>
        make("figure", {}, make("img", { src: shot[0], alt: `image ${k + 1} made for ${title(l, u)}` }),
          make("figcaption", { textContent: shot[1] === null ? "" : told(shot) })))), ...said.map((textContent) => make("p", { className: "small", textContent })));
    }
    parts.push(make("h3", { textContent: "What excites it most in nature" }));
    const example = (shot, image, value) => {
      shot.setAttribute("role", "img");
      shot.setAttribute("aria-label", `part of ${file(image)}`);
      return make("figure", { title: image }, shot, make("figcaption", { textContent: `${number(value)} · ${file(image)}` }));
    };
    parts.push(unit.e.length ? make("div", { className: "unit-examples" }, ...unit.e.map(([i, value], k) => example(tile(l, u, k), images[i], value)))
      : make("p", { textContent: "No examples were kept." }));
    if (unit.b) {
      const [layer, other, r, chance, shots] = unit.b;
      parts.push(make("h3", { textContent: `The unit of ${data.beside} that answers most like it` }), make("p", {
        textContent: `${layer} ${other}: correlation ${r} over the same places of the same images; the best by chance has ${chance}.` }),
      make("div", { className: "unit-examples" }, ...shots.map(([image, value], k) => example(tile(l, u, k, "-beside", data.best), image, value))));
    } else if (data.beside) {
      parts.push(make("h3", { textContent: `The unit of ${data.beside} that answers most like it` }),
        make("p", { textContent: "None: this unit answers the same everywhere." }));
    }
    parts.push(make("h3", { textContent: "All answers" }), histogram(unit), make("p", { className: "small",
      textContent: `From ${number(unit.m[1])} to ${number(unit.m[0])}, mean ${number(unit.m[2])}, above 0 in ${(100 * unit.m[3]).toPrecision(3)} %; counts on a logarithmic scale.` }));
    const likes = (text, pairs) => parts.push(make("h3", { textContent: text }), make("ul", { className: "unit-alike" },
      ...pairs.map(([other, r]) => make("li", {}, make("a", { href: link(l, other), textContent: title(l, other) }), ` ${r}`))));
    if (unit.a.length) likes("Units of the layer that answer alike", unit.a);
    if (unit.w?.length) likes("Units of the layer with alike weights", unit.w);
    (unit.f ?? []).forEach((pairs, k) => {
      const before = layers.findIndex((layer) => layer.name === layers[l].from);
      if (pairs.length) parts.push(make("h3", { textContent: `Units of ${layers[l].from} that speak ${k ? "against" : "for"} it` }), make("ul", { className: "unit-grid" },
        ...pairs.map(([other, weight]) => make("li", {}, make("a", { href: link(before, other) }, tile(before, other, 0), title(before, other)), make("span", { className: "small", textContent: `weight ${weight}` })))));
    });
    return parts;
  };

  const words = () => query.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  // The last whole number is a unit's, those before it are parts of a layer's name ("3 2": unit 2 of layer 3); alone it may be either.
  const found = (asked) => {
    const pairs = [];
    const numbers = asked.filter((w) => /^\d+$/.test(w));
    const texts = asked.filter((w) => !/^\d+$/.test(w));
    const unitNumber = numbers.pop();
    layers.forEach((layer, l) => {
      const name = layer.name.toLowerCase();
      const parts = name.split(".");
      if (!numbers.every((n) => parts.includes(n))) return;
      const whole = numbers.length === 0 && name === unitNumber;
      layer.units.forEach((unit, u) => {
        if (unitNumber !== undefined && Number(unitNumber) !== u && !whole) return;
        const named = unit.n ? unit.n.toLowerCase() : "";
        if (texts.every((w) => name.includes(w) || named.includes(w) || unit.e.some(([i]) => file(images[i]).toLowerCase().includes(w)))) pairs.push([l, u]);
      });
    });
    return pairs;
  };
  const all = (l) => layers[l].units.map((_, u) => [l, u]);
  const here = () => {
    const [, name = "", unit] = /^#(.*?)(?:\/(\d+))?$/.exec(location.hash) ?? [];
    let decoded = name;
    try { decoded = decodeURIComponent(name); } catch { /* no address of this page */ }
    const l = layers.findIndex((layer) => layer.name === decoded);
    if (l < 0 && /^class(\/|$)/.test(decoded)) { // in the last layer that has a unit for each class; a name may be a number
      const asked = (decoded.slice(6) || unit || "").toLowerCase();
      const at = layers.findLastIndex((layer) => layer.units[0]?.n !== undefined);
      const u = at < 0 ? -1 : layers[at].units.findIndex(({ n }) => n.toLowerCase() === asked || n.toLowerCase().split(",")[0] === asked);
      if (u >= 0) return [at, u];
    }
    return [l, unit === undefined || l < 0 || !layers[l].units[unit] ? undefined : Number(unit)];
  };
  const show = () => {
    const asked = words();
    const [l, u] = here();
    count.textContent = "";
    if (asked.length) {
      const pairs = found(asked);
      count.textContent = `${pairs.length} unit${pairs.length === 1 ? "" : "s"}`;
      room.replaceChildren(...(pairs.length ? list(pairs) : [make("p", { textContent: "No unit has all of these words." })]));
    } else if (u !== undefined) {
      room.replaceChildren(...unitPage(l, u));
    } else {
      const at = Math.max(l, 0);
      const { like } = layers[at];
      room.replaceChildren(make("h2", { tabIndex: -1, id: "unit-title", textContent: `${layers[at].name}: ${layers[at].units.length} units` }),
        ...(like ? [make("p", { textContent: `Most like ${like[0]} of ${data.beside}: the median unit goes along with one of it with a correlation of ${number(like[1])} (by chance ${number(like[2])}).` })] : []), ...list(all(at)));
    }
    for (const a of document.querySelectorAll(".contents a")) {
      if (Number(a.dataset.layer) === Math.max(l, 0)) a.setAttribute("aria-current", "location");
      else a.removeAttribute("aria-current");
    }
  };
  document.getElementById("unit-search").addEventListener("submit", (e) => e.preventDefault());
  query.addEventListener("input", show);
  const go = () => { query.value = ""; show(); document.getElementById("unit-title")?.focus(); };
  addEventListener("hashchange", go);
  room.addEventListener("click", (e) => { // a link to the address that is there already changes no address
    if (e.target.closest?.("a")?.getAttribute("href") === location.hash) go();
  });
  addEventListener("keydown", (e) => {
    const [l, u] = here();
    if (e.target === query || u === undefined || e.altKey || e.ctrlKey || e.metaKey) return;
    const next = u + ({ ArrowLeft: -1, ArrowRight: 1 }[e.key] ?? 0);
    if (next !== u && layers[l].units[next]) location.hash = link(l, next);
  });
  show();
})();
