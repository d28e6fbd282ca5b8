// Every page: asks twice a second whether it is still the page to be shown, and goes home where it is not.
// A hand on the screen, the keyboard or the scanner keeps the session awake; this asking does not.

const ASK_MS = 500;
const LOST_AFTER = 2;

const mark = document.body.dataset.mark;
const lost = document.querySelector("[data-lost]");
let touched = false;
let failures = 0;

for (const kind of ["pointerdown", "keydown"]) {
  addEventListener(kind, () => { touched = true; }, { passive: true });
}

async function ask() {
  const sent = touched;
  touched = false;
  try {
    const answer = await fetch(sent ? "/state?touched" : "/state", { cache: "no-store" });
    const state = await answer.json();
    failures = 0;
    lost.hidden = true;
    if (state.mark !== mark) {
      location.replace("/" + (location.pathname === "/" ? location.search : ""));
      return;
    }
  } catch {
    touched = touched || sent;
    failures += 1;
    lost.hidden = failures < LOST_AFTER;
  }
  setTimeout(ask, ASK_MS);
}

if (mark) {
  setTimeout(ask, ASK_MS);
}
addEventListener("pageshow", (event) => { if (event.persisted) { location.replace("/"); } });
