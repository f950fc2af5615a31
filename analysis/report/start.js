// Starts the page, and turns it to paper and back.

ready = unpackPlotly();
build();
drawAll();

// On paper: light, as wide as a sheet.
let before = null;
addEventListener("beforeprint", () => {
  if (printing) return;
  before = document.documentElement.dataset.theme ?? null;
  document.documentElement.dataset.theme = "light";
  printing = true;
  drawAll();
});
addEventListener("afterprint", () => {
  if (before === null) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = before;
  printing = false;
  drawAll();
});
