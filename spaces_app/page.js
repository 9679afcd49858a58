// Runs once when the page opens. Listeners sit on the document, so that they outlive every new answer, and nothing
// here writes HTML: classes, attributes and text alone.
() => {
  if (window.docre) return;
  const rootOf = (element) => element.closest(".docre-answer");
  const numbers = (list) => list.join(", ");

  function clear(root) {
    for (const name of ["docre-picked", "docre-evidence", "docre-end"])
      root.querySelectorAll("." + name).forEach((element) => element.classList.remove(name));
    root.querySelectorAll("button[aria-pressed=true]").forEach((button) => button.setAttribute("aria-pressed", "false"));
    root.classList.remove("docre-chosen", "docre-unknown");
    const reason = root.querySelector(".docre-reason");
    reason.textContent = reason.dataset.hint;
    delete root.dataset.chosen;
  }

  function explain(place, relation) {
    const said = document.createElement("strong");
    said.textContent = `${relation.head_name} — ${relation.label} → ${relation.tail_name}`;
    const evidence = relation.evidence;
    const where = evidence.length
      ? `evidence in sentence${evidence.length > 1 ? "s" : ""} ${numbers(evidence)}.`
      : "the model names no evidence sentence.";
    place.replaceChildren(said, ` (${relation.score.toFixed(2)}): ${where}`);
  }

  function choose(root, number) {
    const again = root.dataset.chosen === String(number);
    clear(root);
    if (again) return;
    const relation = JSON.parse(root.dataset.answer).relations[number];
    root.dataset.chosen = number;
    root.classList.add("docre-chosen");
    root.classList.toggle("docre-unknown", relation.evidence.length === 0);
    root.querySelectorAll(`[data-relation="${number}"]`).forEach((element) => element.classList.add("docre-picked"));
    root.querySelector(`tr[data-relation="${number}"] button`)?.setAttribute("aria-pressed", "true");
    for (const entity of [relation.head, relation.tail])
      root.querySelectorAll(`mark[data-entity="${entity}"], .docre-node[data-entity="${entity}"]`)
        .forEach((element) => element.classList.add("docre-end"));
    for (const sentence of relation.evidence)
      root.querySelector(`[data-sentence="${sentence}"]`)?.classList.add("docre-evidence");
    const text = root.querySelector(".docre-text");
    const first = text.querySelector(".docre-evidence") ?? text.querySelector(".docre-end");
    if (first) text.scrollTop += first.getBoundingClientRect().top - text.getBoundingClientRect().top - 12;
    explain(root.querySelector(".docre-reason"), relation);
  }

  function filter(threshold) {
    const root = document.querySelector(".docre-answer");
    if (!root) return;
    root.dataset.threshold = threshold;
    root.querySelectorAll("[data-score]").forEach((element) => {
      element.classList.toggle("docre-off", !(Number(element.dataset.score) > threshold));
    });
    const ends = new Set();
    root.querySelectorAll(".docre-edge:not(.docre-off)").forEach((edge) => ends.add(edge.dataset.head).add(edge.dataset.tail));
    root.querySelectorAll(".docre-node").forEach((node) => node.classList.toggle("docre-alone", !ends.has(node.dataset.entity)));
    const shown = above(root).relations.length;
    root.querySelector(".docre-count").textContent = shown;
    root.querySelector(".docre-none").classList.toggle("docre-off", shown > 0);
    if (!root.dataset.chosen || root.querySelector(".docre-picked.docre-off")) clear(root);
  }

  function above(root) {
    const answer = JSON.parse(root.dataset.answer);
    const threshold = Number(root.dataset.threshold);
    answer.relations = answer.relations.filter((relation) => relation.score > threshold);
    return answer;
  }

  function download(root) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(above(root), null, 1)], { type: "application/json" }));
    link.download = "relations.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  document.addEventListener("click", (event) => {
    const root = rootOf(event.target);
    if (!root) return;
    if (event.target.closest(".docre-download")) return download(root);
    const relation = event.target.closest("[data-relation]");
    if (relation) choose(root, Number(relation.dataset.relation));
  });
  document.addEventListener("keydown", (event) => {
    const root = document.querySelector(".docre-answer");
    if (event.key === "Escape" && root) clear(root);
  });
  for (const [name, on] of [["mouseover", true], ["mouseout", false]])
    document.addEventListener(name, (event) => {
      const root = event.target.closest?.(".docre-answer");
      for (const [kind, shown] of [["entity", "docre-same"], ["relation", "docre-over"]]) {
        const number = root && event.target.closest(`[data-${kind}]`)?.dataset[kind];
        if (number !== undefined && root)
          root.querySelectorAll(`[data-${kind}="${number}"]`)
            .forEach((element) => element.classList.toggle(shown, on));
      }
    });
  window.docre = { filter };
}
