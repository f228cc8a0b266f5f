// What the scripts of the pages use without having made it: it is the reader's own, or made above.
import * as phoenix from "phoenix"

declare global {
  const Socket: typeof phoenix.Socket
  const socket: phoenix.Socket
  const room: phoenix.Channel
  const token: string
  function show(message: { body: string }): void
  function loadEverything(): void
}
