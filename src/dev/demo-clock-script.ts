/**
 * Demo clock script: shows the ticks of the WebSocket, and why it ended. It runs in the visitor's browser, so it is
 * text here.
 *
 * It never reconnects by itself: a cut connection stays cut until a click.
 */
export const demoClockScript = `"use strict";
const box = document.getElementById("clock");
const time = document.getElementById("time");
const state = document.getElementById("state");
const again = document.getElementById("again");
const reload = document.getElementById("reload");

function say(word, text) {
  box.dataset.clock = word;
  state.textContent = text;
  again.hidden = reload.hidden = word !== "closed";
}

function inWords(code, reason) {
  const said = " (close code " + code + (reason === "" ? "" : ": " + reason) + ")";
  const words = {
    4401: "Your session ended. Sign in again.",
    4403: "You no longer have access. Signing in again won't help.",
    4404: "This app has moved or closed.",
    4408: "This connection has reached its longest time. Connect again.",
    4503: "Access checks are paused. Try again shortly.",
    1001: "The server is restarting. Connect again.",
    1006: "Connection lost. If it doesn't come back, your access may have ended: reload.",
  };
  return (words[code] ?? "The connection was closed.") + said;
}

function connect() {
  say("connecting", "Connecting …");
  const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/clock");
  socket.onmessage = (event) => {
    const tick = JSON.parse(event.data);
    time.textContent = new Date(tick.now).toLocaleTimeString("en-GB");
    time.dateTime = tick.now;
    box.dataset.ticks = tick.ticks;
    if (box.dataset.clock !== "connected") say("connected", "Connected through the proxy" + (tick.user ? " as " + tick.user : "") + ".");
  };
  socket.onclose = (event) => {
    box.dataset.code = event.code;
    say("closed", inWords(event.code, event.reason));
  };
}

again.addEventListener("click", connect);
connect();
`;
