// What the keyboard and screen readers need of Gradio's widgets: a menu closes when it is left, a group of radio buttons is one stop
// (arrows go on inside it), lists that scroll are none, and the button for a file is called what is written on it.
(() => {
  const tidy = () => {
    for (const radio of document.querySelectorAll("input[type=radio]")) {
      const name = radio.closest("[id]:not(input)")?.id;
      if (name && radio.name !== name) radio.name = name;
    }
    for (const list of document.querySelectorAll(".options, [role=listbox]"))
      if (list.getAttribute("tabindex") !== "-1") list.setAttribute("tabindex", "-1");
    document.querySelector("#upload .upload-container[aria-label]")?.removeAttribute("aria-label");
  };
  const watched = { childList: true, subtree: true, attributes: true, attributeFilter: ["name", "aria-label"] };
  new MutationObserver(tidy).observe(document.documentElement, watched);
  addEventListener("focusout", ({ target }) => {
    if (target.getAttribute?.("role") !== "combobox") return;
    setTimeout(() => {
      if (document.activeElement !== target) target.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
    });
  });
})();
