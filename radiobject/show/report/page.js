// Enlarged pictures are links to fragments and work without this: it only adds Escape and the arrow keys.
addEventListener("keydown", (event) => {
  const steps = { Escape: ".close", ArrowLeft: ".previous", ArrowRight: ".next" };
  const link = document.querySelector("figure:target")?.querySelector(steps[event.key] ?? ".none");
  if (link) {
    event.preventDefault();
    link.click();
  }
});
