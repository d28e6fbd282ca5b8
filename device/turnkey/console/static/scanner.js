// A barcode scanner is a keyboard that types a number and Enter. Where nothing that takes text has the focus, its first
// character puts the focus into the number's field, so that its Enter sends the form and presses no other button.

const field = document.querySelector("[data-scan]");

if (field) {
  addEventListener("keydown", (event) => {
    const typed = event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.altKey && !event.metaKey;
    if (typed && !event.target.matches("input")) {
      event.preventDefault();
      field.focus();
      if (field.value.length < field.maxLength) {
        field.value += event.key;
      }
    }
  });
}
