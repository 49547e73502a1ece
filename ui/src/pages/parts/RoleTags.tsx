/** The roles of a framework: one or two by name, more by number with all on hover. */
import { Tag } from '~/components/basic'
import { plural } from '~/format'

export function RoleTags({ roles }: { roles: readonly string[] }) {
  if (roles.length === 0) return <span class="muted">–</span>
  if (roles.length > 2) {
    return (
      <Tag title={[...roles].sort().join('\n')}>
        {plural(roles.length, 'role')}
      </Tag>
    )
  }
  return (
    <span class="tags">
      {roles.map((r) => (
        <Tag key={r} title={r}>
          {r}
        </Tag>
      ))}
    </span>
  )
}
