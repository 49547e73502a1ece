/** Fields of forms: a label, the input, a hint and what is wrong. All are controlled by a signal. */
import type { Signal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useId } from 'preact/hooks'
import { cx } from './basic'

interface Common {
  label: string
  hint?: ComponentChildren
  /** What is wrong with what was typed. */
  error?: string | undefined
  disabled?: boolean
}

/** Field is a label around any input; children gets the attributes that tie them together. */
export function Field(p: Common & { children: (attrs: { id: string; 'aria-describedby': string | undefined; 'aria-invalid': boolean; disabled: boolean | undefined }) => ComponentChildren }) {
  const id = useId()
  const note = p.error ?? p.hint
  return (
    <div class={cx('field', p.error !== undefined && 'field-bad')}>
      <label class="field-label" for={id}>
        {p.label}
      </label>
      {p.children({ id, 'aria-describedby': note === undefined ? undefined : id + 'n', 'aria-invalid': p.error !== undefined, disabled: p.disabled })}
      {note !== undefined && (
        <span class="field-hint" id={id + 'n'}>
          {note}
        </span>
      )}
    </div>
  )
}

/** TextField is one line of text. */
export function TextField(
  p: Common & {
    value: Signal<string>
    type?: 'text' | 'password' | 'datetime-local' | 'number'
    placeholder?: string
    autofocus?: boolean
    autocomplete?: string
    list?: string
    required?: boolean
    mono?: boolean
  },
) {
  return (
    <Field label={p.label} hint={p.hint} error={p.error} {...(p.disabled === undefined ? {} : { disabled: p.disabled })}>
      {(attrs) => (
        <input
          {...attrs}
          type={(p.type ?? 'text') as 'text'}
          class={p.mono === true ? 'mono' : undefined}
          value={p.value.value}
          placeholder={p.placeholder}
          required={p.required}
          list={p.list}
          autocomplete={p.autocomplete ?? 'off'}
          spellcheck={false}
          data-autofocus={p.autofocus}
          onInput={(e) => (p.value.value = e.currentTarget.value)}
        />
      )}
    </Field>
  )
}

/** NumberField is a number; NaN while nothing is typed. */
export function NumberField(p: Common & { value: Signal<number>; min?: number; max?: number; step?: number | 'any'; autofocus?: boolean; placeholder?: string }) {
  return (
    <Field label={p.label} hint={p.hint} error={p.error} {...(p.disabled === undefined ? {} : { disabled: p.disabled })}>
      {(attrs) => (
        <input
          {...attrs}
          type="number"
          min={p.min}
          max={p.max}
          step={p.step ?? 'any'}
          placeholder={p.placeholder}
          value={Number.isNaN(p.value.value) ? '' : p.value.value}
          data-autofocus={p.autofocus}
          onInput={(e) => (p.value.value = e.currentTarget.valueAsNumber)}
        />
      )}
    </Field>
  )
}

/** AreaField is several lines. */
export function AreaField(p: Common & { value: Signal<string>; rows?: number; placeholder?: string }) {
  return (
    <Field label={p.label} hint={p.hint} error={p.error} {...(p.disabled === undefined ? {} : { disabled: p.disabled })}>
      {(attrs) => (
        <textarea {...attrs} rows={p.rows ?? 4} class="mono" spellcheck={false} placeholder={p.placeholder} value={p.value.value} onInput={(e) => (p.value.value = e.currentTarget.value)} />
      )}
    </Field>
  )
}

/** SelectField is one of some. */
export function SelectField(p: Common & { value: Signal<string>; options: readonly (string | { value: string; title: string })[] }) {
  return (
    <Field label={p.label} hint={p.hint} error={p.error} {...(p.disabled === undefined ? {} : { disabled: p.disabled })}>
      {(attrs) => (
        <select {...attrs} value={p.value.value} onChange={(e) => (p.value.value = e.currentTarget.value)}>
          {p.options.map((o) => {
            const { value, title } = typeof o === 'string' ? { value: o, title: o } : o
            return (
              <option key={value} value={value} selected={value === p.value.value}>
                {title}
              </option>
            )
          })}
        </select>
      )}
    </Field>
  )
}

/** CheckField is yes or no. */
export function CheckField(p: { label: ComponentChildren; hint?: ComponentChildren; value: Signal<boolean>; disabled?: boolean }) {
  return (
    <label class="check">
      <input type="checkbox" checked={p.value.value} disabled={p.disabled} onChange={(e) => (p.value.value = e.currentTarget.checked)} />
      <span>
        {p.label}
        {p.hint !== undefined && <span class="field-hint">{p.hint}</span>}
      </span>
    </label>
  )
}

/** Segments are few choices side by side. */
export function Segments<T extends string>(p: { label: string; value: T; options: readonly { value: T; title: ComponentChildren }[]; onChange: (v: T) => void }) {
  return (
    <div class="segments" role="group" aria-label={p.label}>
      {p.options.map((o) => (
        <button key={o.value} type="button" aria-pressed={o.value === p.value} class={cx('segment', o.value === p.value && 'segment-on')} onClick={() => p.onChange(o.value)}>
          {o.title}
        </button>
      ))}
    </div>
  )
}

/** Chip is a filter that is on or off. */
export function Chip(p: { on: boolean; children: ComponentChildren; count?: number | undefined; onChange: (on: boolean) => void; tone?: string }) {
  return (
    <button type="button" class={cx('chip', p.on && 'chip-on', p.tone !== undefined && 'chip-' + p.tone)} aria-pressed={p.on} onClick={() => p.onChange(!p.on)}>
      {p.children}
      {p.count !== undefined && <span class="chip-count">{p.count.toLocaleString('en')}</span>}
    </button>
  )
}
