"use strict";
const form = document.getElementById("filters");
const cases = [...document.querySelectorAll("article")].map((node) => ({
  node,
  text: node.textContent.toLowerCase(),
  panels: [...node.querySelectorAll(".method")],
}));

function filter() {
  const wanted = form.elements;
  const ticked = new Set([...form.querySelectorAll("[name=method]:checked")].map((box) => box.value));
  const words = wanted.words.value.toLowerCase().split(/\s+/).filter(Boolean);
  const least = Number(wanted.least.value);
  let shown = 0;
  for (const { node, text, panels } of cases) {
    for (const panel of panels) panel.hidden = !ticked.has(panel.dataset.method);
    const means = panels.filter((panel) => !panel.hidden && panel.dataset.mean).map((panel) => Number(panel.dataset.mean));
    const errors = means.map((mean) => Math.abs(mean - Number(node.dataset.rating)));
    const measured = wanted.measure.value === "error" ? Math.max(...errors) : Math.max(...means) - Math.min(...means);
    const fits =
      (!wanted.rating.value || wanted.rating.value === node.dataset.rating) &&
      (!wanted.data?.value || wanted.data.value === node.dataset.data) &&
      (least <= 0 || measured >= least) &&
      words.every((word) => text.includes(word));
    node.hidden = !fits;
    shown += fits ? 1 : 0;
  }
  document.getElementById("count").textContent = `${shown} of ${cases.length} cases`;
}

form.addEventListener("input", filter);
form.addEventListener("reset", () => setTimeout(filter));
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
filter();
