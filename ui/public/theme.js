// Runs before anything is painted, so that who chose a theme sees no flash of the other.
// It is a file of its own because the content security policy allows no inline script.
;(function () {
  try {
    var theme = localStorage.getItem('clusterd.theme')
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
  } catch (e) {
    // No storage: the system decides.
  }
})()
