import { Socket } from "phoenix"
import { channel } from "./contract"

const room = channel(new Socket("/socket"), "room", { accountId: 1 })
room.join().receive("ok", (account) => {
  const initial: string = account.initial
  const id: number = account.id
  // @ts-expect-error it goes out by its other name
  console.log(initial, id, account.accountId)
})
room.push("comment", { text: "a", replies: [{ text: "b", replies: [] }] }).receive("ok", ([first]) => {
  const inner: string | undefined = first?.replies?.[0]?.replies?.[0]?.text
  console.log(inner)
})
room.push("model", { of_other_comment: [{ of_other_comment: [] }] })
// @ts-expect-error another type of the same name
room.push("model", { text: "a", replies: [] })
room.on("struct", (message) => message.of_struct.toFixed())
room.on("other struct", (message) => message.of_other_struct.toUpperCase())
room.on("model", (model) => model.of_model.toFixed())
room.on("other model", (model) => model.of_other_model.toUpperCase())
room.on("mood", (moods) => moods["a"] === "good")
room.on("other mood", (moods) => moods["a"] === "bad")
room.on("tree", (tree) => tree.branches[0]?.leaf?.on.branches.length)
room.on("page", (page) => page.items[0]?.of_struct.toFixed())
room.on("other page", (page) => page.items[0]?.of_other_struct.toUpperCase())
room.on("deep page", (page) => page.items[0]?.items[0]?.toFixed())
room.on("sheet", (page) => page.items[0]?.of_model.toFixed())
room.on("other sheet", (page) => page.items[0]?.of_other_model.toUpperCase())
room.on("push", (push) => push.force.toFixed())
room.on("record", (record) => record.values[1]?.toFixed())
room.on("one", (one) => one.one.toFixed())
room.on("two", (two) => two.two.toUpperCase())
room.on("account", (account) => account.id + account.initial.length)
room.on("shape", (shape) => ("force" in shape ? shape.force : shape.of_other_push).toFixed())
room.on("envelope", ({ about, thread }) => about.id + (thread?.replies?.length ?? 0))
channel(new Socket("/socket"), "other").on("other", (message) => message.of_other_struct)
channel(new Socket("/socket"), "third").on("third", (message) => message.of_other_struct)
