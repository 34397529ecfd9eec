
// The map of an activation atlas: the plane is scaled and shifted under its window.
(() => {
  const view = document.getElementById("atlas-view");
  if (!view) return;
  const plane = document.getElementById("atlas-plane");
  const { grid, cells } = JSON.parse(document.getElementById("atlas-data").textContent);
  const buttons = [...plane.querySelectorAll(".atlas-cell")];
  const rows = cells.map((c) => c[0]);
  const columns = cells.map((c) => c[1]);
  const [top, left] = [Math.min(...rows), Math.min(...columns)];
  const [high, wide] = [Math.max(...rows) - top + 1, Math.max(...columns) - left + 1];
  const at = new Map(cells.map((c, k) => [`${c[0]},${c[1]}`, k]));
  let [scale, x, y] = [1, 0, 0];
  const side = () => Math.min(view.clientWidth / wide, view.clientHeight / high);
  const place = () => {
    const one = side();
    const [dx, dy] = [(view.clientWidth - one * wide) / 2, (view.clientHeight - one * high) / 2];
    buttons.forEach((b, k) => {
      Object.assign(b.style, { left: `${dx + (columns[k] - left) * one}px`, top: `${dy + (rows[k] - top) * one}px`, width: `${one}px`, height: `${one}px` });
    });
    show();
  };
  const show = () => {
    scale = Math.min(Math.max(scale, 1), 12);
    x = Math.min(Math.max(x, view.clientWidth * (1 - scale)), 0);
    y = Math.min(Math.max(y, view.clientHeight * (1 - scale)), 0);
    plane.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  };
  const zoom = (factor, px = view.clientWidth / 2, py = view.clientHeight / 2) => {
    const next = Math.min(Math.max(scale * factor, 1), 12);
    x = px - (px - x) * (next / scale);
    y = py - (py - y) * (next / scale);
    scale = next;
    show();
  };
  view.addEventListener("wheel", (e) => {
    e.preventDefault();
    const box = view.getBoundingClientRect();
    zoom(Math.exp(-e.deltaY / 400), e.clientX - box.left, e.clientY - box.top);
  }, { passive: false });

  // One finger or the mouse moves the map, two fingers zoom it; a press that does not move chooses an image.
  const fingers = new Map();
  let moved = 0;
  view.addEventListener("pointerdown", (e) => { fingers.set(e.pointerId, e); moved = 0; });
  view.addEventListener("pointermove", (e) => {
    const before = fingers.get(e.pointerId);
    if (!before) return;
    moved += Math.abs(e.clientX - before.clientX) + Math.abs(e.clientY - before.clientY);
    if (fingers.size === 1) {
      x += e.clientX - before.clientX;
      y += e.clientY - before.clientY;
      if (moved > 4) view.classList.add("moving");
      show();
    } else {
      const other = [...fingers.values()].find((f) => f.pointerId !== e.pointerId);
      const distance = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
      const box = view.getBoundingClientRect();
      zoom(distance(e, other) / Math.max(distance(before, other), 1), (e.clientX + other.clientX) / 2 - box.left, (e.clientY + other.clientY) / 2 - box.top);
    }
    fingers.set(e.pointerId, e);
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
    view.addEventListener(end, (e) => { fingers.delete(e.pointerId); view.classList.remove("moving"); });
  }

  const panel = document.getElementById("atlas-panel");
  const choose = (k, focus = true) => {
    const [row, column, count, channels, failed] = cells[k];
    const name = `${String(row).padStart(2, "0")}-${String(column).padStart(2, "0")}`;
    for (const b of buttons) b.removeAttribute("aria-current");
    buttons[k].setAttribute("aria-current", "true");
    panel.hidden = false;
    document.getElementById("atlas-title").textContent = `Row ${row}, column ${column}: ${count} activations`;
    const image = document.getElementById("atlas-image");
    image.hidden = Boolean(failed);
    if (!failed) image.src = `cells/${name}.png`;
    document.getElementById("atlas-natural").src = `cells/${name}-natural.jpg`;
    document.getElementById("atlas-text").textContent = failed || `Strongest channels of the direction: ${channels.join(", ")}.`;
    history.replaceState(null, "", `#cell-${name}`);
    if (focus) buttons[k].focus({ preventScroll: true });
  };
  buttons.forEach((b, k) => {
    b.addEventListener("click", () => { if (moved <= 4) choose(k); moved = 0; });
    b.addEventListener("keydown", (e) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
      if (!step) return;
      e.preventDefault();
      for (let n = 1; n <= grid; n += 1) {
        const next = at.get(`${rows[k] + n * step[0]},${columns[k] + n * step[1]}`);
        if (next !== undefined) { choose(next); return; }
      }
    });
  });
  view.addEventListener("keydown", (e) => {
    if (e.key === "+" || e.key === "=") zoom(1.5);
    else if (e.key === "-") zoom(1 / 1.5);
    else if (e.key === "0") { [scale, x, y] = [1, 0, 0]; show(); }
  });
  document.getElementById("atlas-in").addEventListener("click", () => zoom(1.5));
  document.getElementById("atlas-out").addEventListener("click", () => zoom(1 / 1.5));
  document.getElementById("atlas-whole").addEventListener("click", () => { [scale, x, y] = [1, 0, 0]; show(); });
  addEventListener("resize", place);
  place();
  const asked = buttons.findIndex((b) => `#${b.id}` === location.hash);
  if (asked >= 0) choose(asked, false);
})();
