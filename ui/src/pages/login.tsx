/** Login by name and password, by token, or by an OpenID provider. */
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { ApiError } from '../api/client'
import { Button, ErrorNote, Segments, TextField } from '../components'
import { go, href, useRoute } from '../router'
import { login, loginNeeded, oidcAddress, session } from '../session'
import { Logo } from '../shell/Shell'

type Scheme = 'basic' | 'token'

/** Login fills the window. It is shown over any route, so that who logs in comes out where they wanted to go. */
export function Login() {
  const route = useRoute()
  const s = session.value
  const schemes = s?.schemes ?? ['basic', 'token']
  const forms = (['basic', 'token'] as const).filter((x) => schemes.includes(x))
  const chosen = useSignal<Scheme | undefined>(undefined)
  const scheme = chosen.value ?? forms[0]
  const name = useSignal('')
  const password = useSignal('')
  const token = useSignal('')
  const busy = useSignal(false)
  const error = useSignal<unknown>(undefined)
  useEffect(() => {
    document.title = 'Log in · clusterd'
    document.querySelector<HTMLElement>('.login [data-autofocus]')?.focus()
  }, [scheme])
  const onRoute = route.name === 'login'
  const to = onRoute ? (route.query['to'] ?? '#/') : location.hash || '#/'
  const done = () => {
    if (onRoute) go(to, { replace: true })
  }
  const submit = () => {
    if (busy.value || scheme === undefined) return
    busy.value = true
    error.value = undefined
    login(scheme === 'basic' ? { scheme, username: name.value, password: password.value } : { scheme, token: token.value.trim() })
      .then(done, (err: unknown) => {
        error.value = err instanceof ApiError && err.status === 401 ? new Error(scheme === 'basic' ? 'The name or the password is wrong.' : 'The token is not accepted.') : err
      })
      .finally(() => (busy.value = false))
  }
  return (
    <main class="login">
      <form
        class="login-box"
        onSubmit={(e) => {
          e.preventDefault()
          submit()
        }}
      >
        <div class="login-brand">
          <Logo size={40} />
          <h1>{s?.cluster ? s.cluster : 'clusterd'}</h1>
          <p class="muted">{s !== undefined && s.schemes.length === 0 ? 'This cluster asks nobody to log in' : s?.required === false ? 'Log in to change things' : 'Log in to see this cluster'}</p>
        </div>
        {route.query['error'] !== undefined && <ErrorNote error={route.query['error']} />}
        {schemes.includes('oidc') && (
          <a class="button button-primary login-wide" href={oidcAddress('/' + to)}>
            <span>Log in by single sign-on</span>
          </a>
        )}
        {schemes.includes('oidc') && forms.length > 0 && <div class="login-or">or</div>}
        {forms.length > 1 && (
          <Segments<Scheme>
            label="How to log in"
            value={scheme ?? 'basic'}
            options={[
              { value: 'basic', title: 'Password' },
              { value: 'token', title: 'Token' },
            ]}
            onChange={(v) => (chosen.value = v)}
          />
        )}
        {scheme === 'basic' && (
          <>
            <TextField label="Name" value={name} autocomplete="username" autofocus required />
            <TextField label="Password" value={password} type="password" autocomplete="current-password" required />
          </>
        )}
        {scheme === 'token' && <TextField label="Token" value={token} type="password" autocomplete="off" autofocus required mono hint="A JSON Web Token that this cluster accepts." />}
        <ErrorNote error={error.value} />
        {scheme !== undefined && (
          <Button kind={schemes.includes('oidc') ? 'plain' : 'primary'} type="submit" busy={busy.value}>
            Log in
          </Button>
        )}
        {s !== undefined && (s.required === false || s.authenticated) && (
          <a
            class="login-back"
            href={onRoute ? href('overview') : location.hash || '#/'}
            onClick={() => (loginNeeded.value = false)}
          >
            {s.authenticated ? 'Go on as ' + (s.principal?.value ?? 'before') : 'Go on without'}
          </a>
        )}
      </form>
    </main>
  )
}
