// Words: the model's own tokenizer, by the library that reads its file.

import { Tokenizer } from "../vendor/tokenizers.mjs";

export function codec({ tokenizer_json: stored }) {
  const tokenizer = new Tokenizer(stored, { clean_up_tokenization_spaces: false });
  return {
    size: Object.keys(stored.model.vocab).length,
    read: (text) => Array.from(tokenizer.encode(text, { add_special_tokens: false }).ids, Number),
    write: (ids) => tokenizer.decode(ids, { skip_special_tokens: false }),
  };
}
