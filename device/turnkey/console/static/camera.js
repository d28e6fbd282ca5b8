// The live picture with the one thing to do about it, and the shutter.
//
// Rules kept here:
// 1. A picture is drawn only while nothing said since that there is none: a stop darkens at once.
// 2. The next picture is asked for when this one is on the screen.
// 3. Advice that comes and goes is no advice: it is shown once it has stood for a moment.

const RETRY_MS = 400;
const STEADY_MS = 200;
const SILENT_MS = 2000;

const stage = document.querySelector("[data-stage]");
const canvas = stage.querySelector("[data-picture]");
const pen = canvas.getContext("2d", { alpha: false });
const advice = stage.querySelector("[data-advice]");
const shutter = document.querySelector("[data-shoot]");

let generation = 0;
let facts = null;
let pending = { text: "", since: 0 };
let heard = performance.now();
let leaving = false;

function say(text, state) {
  if (advice.textContent !== text) {
    advice.textContent = text;
  }
  stage.dataset.state = state;
}

function darken(text, state = "dark") {
  generation += 1;
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  stage.dataset.frames = "0";
  say(text, state);
}

function advise(now) {
  if (pending.text !== facts.text) {
    pending = { text: facts.text, since: now };
  }
  if (now - pending.since >= STEADY_MS || stage.dataset.state === "waiting" || stage.dataset.state === "dark") {
    say(facts.text, facts.good ? "good" : "guide");
  }
}

async function draw(blob, socket) {
  const mine = generation;
  const picture = await createImageBitmap(blob);
  if (mine !== generation || leaving) {
    picture.close();
    return;
  }
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  pen.drawImage(picture, 0, 0);
  picture.close();
  stage.dataset.frames = String(Number(stage.dataset.frames ?? 0) + 1);
  advise(performance.now());
  if (socket.readyState === WebSocket.OPEN) {
    socket.send("next");
  }
}

function connect() {
  const socket = new WebSocket(`ws://${location.host}/live`);
  socket.addEventListener("message", (event) => {
    heard = performance.now();
    if (typeof event.data !== "string") {
      draw(event.data, socket);
      return;
    }
    facts = JSON.parse(event.data);
    if (facts.dark && !(leaving && facts.dark === "busy")) {
      darken(facts.text);
    }
    if (facts.dark === "stopped") {
      location.replace("/");
    }
  });
  socket.addEventListener("close", () => {
    if (!leaving) {
      darken(stage.dataset.waiting, "waiting");
      setTimeout(connect, RETRY_MS);
    }
  });
}

shutter.addEventListener("submit", (event) => {
  if (leaving) {
    event.preventDefault();
    return;
  }
  leaving = true;
  say(stage.dataset.working, "working");
  shutter.querySelector("button").setAttribute("aria-disabled", "true");
});

setInterval(() => {
  if (!leaving && performance.now() - heard > SILENT_MS && stage.dataset.state !== "waiting") {
    darken(stage.dataset.waiting, "waiting");
  }
}, RETRY_MS);

connect();
