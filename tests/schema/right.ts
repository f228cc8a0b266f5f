import { Socket } from "phoenix"
import { backOfficeSocketChannel, chatSocketChannel, type Message } from "./contract"

const socket = new Socket("/socket")
const room = chatSocketChannel(socket, "room:1", { name: "ann" })

room.join().receive("ok", (message) => {
  const known: Message = message
  const author: string = known.author.name
  const [width, height]: [number, number] = known.size
  console.log(author, width + height, known.counts["likes"]?.toFixed())
}).receive("error", (refused) => console.log(refused.reason)).receive("timeout", () => {})

room.push("new_msg", { body: "hello", mood: "bad", reply_to: null })
  .receive("ok", ({ id, at }) => console.log(id + 1, at.length))
  .receive("error", (problem) => console.log(problem.reason.length))
room.push("order now!", { lines: [{ item: "tea", count: 1 }] }, 5000)
room.push("anything", 42).receive("ok", (whatever) => console.log(whatever.at.all))
room.push("move", { x: 1, y: 0.5 }).receive("blocked", () => {}).receive("error", ({ errors }) => console.log(errors?.[0]?.path))

room.on("message", (message) => console.log(message.author.id.toUpperCase()))
room.on("part", (part) => console.log(part.type === "text" ? part.text : part.url))
room.on("cleared", (anything) => console.log(anything))
room.on("presence_state", () => {})
room.onError(() => {
  room.leave()
})

const lobby = chatSocketChannel(socket, "room:lobby")
lobby.on("whatever", (payload) => console.log(payload))
lobby.join()

const orders = backOfficeSocketChannel(socket, "orders`${x}:7")
orders.push("move", { x: 1, y: 2 })

function anyTopic(topic: `room:${string}`) {
  return chatSocketChannel(socket, topic)
}
anyTopic("room:2").join()
