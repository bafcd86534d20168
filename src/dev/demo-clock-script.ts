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
  const said = reason === "" ? "" : ": " + reason;
  if (code === 1008 || code >= 4000) return "Your access was revoked (close code " + code + said + "). Reload to sign in again.";
  if (code === 1006) return "The connection broke without a close message (close code 1006). If it does not come back, your access may have ended: reload.";
  if (code === 1000 || code === 1001 || code === 1012) return "The other side closed the connection (close code " + code + said + ").";
  return "The connection failed (close code " + code + said + ").";
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
