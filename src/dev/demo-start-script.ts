/**
 * Demo start script: ticks off the steps of the start page, and remembers in the browser that the guide is hidden. It
 * runs in the visitor's browser, so it is text here.
 */
export const demoStartScript = `"use strict";
const key = "cardea.guide";
const steps = document.getElementById("steps");
const hidden = document.getElementById("hidden");
const hide = document.getElementById("hide");
const show = document.getElementById("show");
const ended = document.getElementById("ended");

function remembered() {
  try { return localStorage.getItem(key) === "hidden"; } catch { return false; }
}
function choose(isHidden) {
  try { localStorage.setItem(key, isHidden ? "hidden" : "shown"); } catch { /* A private window may keep nothing. */ }
  apply(isHidden);
  (isHidden ? show : hide).focus();
}
function apply(isHidden) {
  steps.hidden = isHidden;
  hidden.hidden = !isHidden;
}
hide.hidden = false;
hide.addEventListener("click", () => choose(true));
show.addEventListener("click", () => choose(false));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !steps.hidden) choose(true);
});
apply(remembered());

function tick({ running, cutAt, consoleOpened }) {
  const done = [running > 0 || cutAt !== null, consoleOpened, cutAt !== null];
  const next = done.indexOf(false);
  for (const [index, isDone] of done.entries()) {
    const step = document.querySelector('[data-step="' + (index + 1) + '"]');
    step.toggleAttribute("data-done", isDone);
    step.toggleAttribute("data-next", index === next);
    if (index === next) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
    step.querySelector("i").textContent = isDone ? "✓" : String(index + 1);
  }
  const words = running > 0 ? ended.dataset.running
    : cutAt === null ? "" : ended.dataset.ended.replace("{}", new Date(cutAt).toLocaleTimeString());
  if (ended.textContent !== words) ended.textContent = words;
}

async function ask() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/progress");
    if (answer.ok) tick(await answer.json());
  } catch { /* The demo has stopped; the next question may be answered. */ }
}
setInterval(ask, 1000);
document.addEventListener("visibilitychange", ask);
ask();
`;
