// @ts-check
/**
 * Script of the page on which a person waits for access: asks whether the request was decided, and opens the app once it
 * is approved and open. Without it the page has a link that checks again.
 */

const firstMs = 2_000;
const slowestMs = 15_000;
const waiting = document.querySelector("[data-poll]");

/** @param {HTMLElement} element @param {number} pauseMs */
const watch = async (element, pauseMs) => {
  const { poll = "", open = "", check = "" } = element.dataset;
  if (!document.hidden) {
    try {
      const response = await fetch(poll, { headers: { accept: "application/json" } });
      if (response.ok) {
        const { requests, permitted } = await response.json();
        if (permitted === true) return location.replace(open);
        // Denied or withdrawn elsewhere: the page says so. An approval may take a moment to reach this server.
        const [newest] = Array.isArray(requests) ? requests : [];
        if (newest?.status !== "pending" && newest?.status !== "approved") return location.replace(check);
      } else if (response.status === 401) return location.replace(check);
    } catch {
      // The network is away for a while.
    }
  }
  setTimeout(() => void watch(element, Math.min(slowestMs, pauseMs * 1.2)), pauseMs);
  return undefined;
};

if (waiting instanceof HTMLElement) setTimeout(() => void watch(waiting, firstMs), firstMs);
