document.getElementById("app").textContent = "Tunewright";
