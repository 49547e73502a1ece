/** A share as a small bar with its number. */
import { PartsBar } from '~/components/ResourceBar'

export function Sparkbar({ share, text, label, color = 'used' }: { share: number; text: string; label: string; color?: string }) {
  return (
    <span class="sparkbar">
      <PartsBar thin label={label} parts={[{ name: 'share', value: share, color }]} total={1} text={() => text} />
      <span class="num">{text}</span>
    </span>
  )
}
