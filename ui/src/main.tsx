/** The start of the UI. */
import { render } from 'preact'
import './style/index.css'
import { startTheme } from './prefs'
import { startSession } from './session'
import { startCommands } from './shell/commands'
import { startKeys } from './shell/keys'
import { Shell } from './shell/Shell'
import { startSync } from './state/sync'

startTheme()
startKeys()
startCommands()
// A master that does not know sessions, or does not answer: the data says what is wrong.
void startSession()
  .catch(() => undefined)
  .then(startSync)

const app = document.getElementById('app')
if (app !== null) {
  app.replaceChildren()
  render(<Shell />, app)
}
