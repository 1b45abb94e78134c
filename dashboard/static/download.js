// A link that looks like a button and downloads a file from a route of ours.

export default function (component) {
  const { parentElement, data } = component;
  let link = parentElement.querySelector(".rg-download");
  if (!link) {
    link = element("a", "rg-download");
    parentElement.append(link);
  }
  link.textContent = `↓ ${data.label}`;
  link.href = data.href;
  link.download = data.name;
  link.title = data.help;
}
