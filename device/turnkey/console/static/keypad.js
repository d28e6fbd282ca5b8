// The keypad on the screen, for a console without a keyboard: it types into the field that was last in use.

const fields = [...document.querySelectorAll("[data-typed]")];
let field = fields.find((one) => one.autofocus) ?? fields[0];

for (const one of fields) {
  one.addEventListener("focus", () => { field = one; });
}

for (const pad of document.querySelectorAll("[data-keypad]")) {
  pad.hidden = !field;
  // Keys must not take the focus: the caret stays where the text goes.
  pad.addEventListener("pointerdown", (event) => event.preventDefault());
  pad.addEventListener("click", (event) => {
    const key = event.target.closest("button");
    if (!key) {
      return;
    }
    if (key.dataset.switch) {
      for (const keys of pad.querySelectorAll("[data-keys]")) {
        keys.hidden = keys.dataset.keys !== key.dataset.switch;
      }
    } else if ("backspace" in key.dataset) {
      field.value = field.value.slice(0, -1);
    } else if (field.value.length < field.maxLength) {
      field.value += key.dataset.key;
    }
  });
}
