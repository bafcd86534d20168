// @ts-check
/** Access reports: a copied link fixes the moment that is shown, and the tables can be saved as CSV. */
import { find } from "./dom.js";

document.addEventListener("copy-link", (event) => {
  const at = find("#moment", HTMLElement)?.dataset["at"];
  if (event instanceof CustomEvent && event.detail.url instanceof URL && at !== undefined)
    event.detail.url.searchParams.set("at", at);
});

/** A spreadsheet must not run a cell as a formula. @param {string} text */
const cell = (text) => {
  const plain = text.replaceAll(/\s+/g, " ").trim();
  return `"${(/^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain).replaceAll('"', '""')}"`;
};

const button = find("#csv", HTMLButtonElement);
if (button !== null && document.querySelector("table[data-csv]") !== null) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const lines = [...document.querySelectorAll("table[data-csv] tr")].map((row) =>
      [...row.querySelectorAll("th, td")].map((each) => cell(each.textContent ?? "")).join(","),
    );
    const url = URL.createObjectURL(new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = `${button.dataset["name"] ?? "access"}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1_000);
  });
}
