// Package browser tests the web UI as people see it: Debian's chromium, driven by
// chromedp, opens every page and takes every act against real masters, agents and
// tasks. Whatever a page writes to the console as an error, every exception, every
// breach of the content security policy and every request to another address fails
// the test in which it happens.
//
// A test that fails logs what its page says, what it wrote to the console, and where a
// picture of it is: in $CLUSTERD_PICTURES, else clusterd-browser-failures below $TMPDIR.
//
// It holds tests only. They need the UI built into the binary (`make ui`) and chromium
// (scripts/chromium.sh), and are skipped without them, unless CI=1 asks for everything.
package browser
