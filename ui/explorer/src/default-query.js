export const defaultQuery = `# Vellum's explorer. Press the play button and pick an operation.

# What is in the library, and the newest cursor of the changelog.
query Library {
  headCursor
  root {
    path
    folders(first: 10) { nodes { path title } }
    assets(first: 10, recursive: true) {
      nodes { path url publishedVersion { number contentType size } }
    }
  }
}

# Watch the changelog: leave it running in a second tab while you upload.
subscription Watch {
  changes {
    cursor
    changes { type path versionNumber at actor { id } }
  }
}

# An upload, step by step: start, send the bytes to target.url, finish.
mutation Start {
  startUpload(input: { path: "images/hero", contentType: "image/jpeg" }) {
    intent {
      id
      status
      target { method url headers { name value } }
    }
  }
}
`;
