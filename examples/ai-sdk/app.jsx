import { useChat } from "@ai-sdk/react";
import { useEffect } from "react";
import { createRoot } from "react-dom/client";

function Chat({ id, before }) {
  const { messages, sendMessage, status, error, resumeStream } = useChat({
    id,
    messages: before,
    resume: true, // when the page is opened, and when it becomes visible again
  });

  // And when the connection is cut while somebody looks: the browser calls that a TypeError.
  useEffect(() => {
    if (!(error instanceof TypeError)) return;
    const timer = setTimeout(resumeStream, 1000);
    return () => clearTimeout(timer);
  }, [error, resumeStream]);

  function ask(event) {
    event.preventDefault();
    sendMessage({ text: new FormData(event.target).get("question") });
  }

  return (
    <>
      {messages.map(({ id, role, parts }) => (
        <article key={id} id={id} className={role} style={{ whiteSpace: "pre-wrap" }}>
          {parts.map((part) => part.text)}
        </article>
      ))}
      <form onSubmit={ask}>
        <input name="question" defaultValue="What is a closure?" aria-label="Question" />
        <button disabled={status !== "ready"}>Ask</button>
      </form>
      <p id="status">{status}</p>
    </>
  );
}

// The chat's id is in the address, so that a reload finds it again.
location.hash ||= crypto.randomUUID();
const id = location.hash.slice(1);
const before = await (await fetch(`/api/chat/${id}`)).json();
createRoot(document.querySelector("main")).render(<Chat id={id} before={before} />);
